// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Use is what a living process uses at one time.
type Use struct {
	RSS, Swap uint64 // bytes
	Threads   int
	CPU       time.Duration // since its start
	// CPUPercent is its share of one core of late, nil where nobody has measured it.
	CPUPercent *float64
}

// OrphansUsing returns the living orphans, with what usage says that they and their
// trees use; it says false of whom it does not know. From any goroutine, on which usage
// is called.
func (t *Tracer) OrphansUsing(ctx context.Context, usage func(event.ID) (Use, bool)) ([]wire.Process, error) {
	var orphans []tracker.Process
	var all []lineageNode
	err := t.Do(ctx, func(tree *tracker.Tree) {
		if tree.Orphans() == 0 {
			return
		}
		all = make([]lineageNode, 0, tree.Living())
		for p := range tree.All(false) {
			all = append(all, lineageNode{p.ID, p.Spawner, p.Dead})
			if p.Orphan != nil && !p.Dead {
				orphans = append(orphans, copyOf(p))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(orphans, func(a, b tracker.Process) int { return byAge(a.ID, b.ID) })
	totals := newSubtreeTotals(all, usage)
	list := make([]wire.Process, 0, len(orphans))
	t.views.mu.Lock()
	defer t.views.mu.Unlock()
	t.views.conv.offset = boottime.Offset()
	for i := range orphans {
		w := t.views.describe(new(processScratch), &orphans[i], usage)
		w.Orphan.Tree = totals.sum(orphans[i].ID)
		list = append(list, *w)
	}
	return list, nil
}

// lineageNode is a process's place in the lineage.
type lineageNode struct {
	id, spawner event.ID
	dead        bool
}

// subtreeTotals sums up what processes use together with their living descendants.
type subtreeTotals struct {
	usage    func(event.ID) (Use, bool)
	place    map[event.ID]int32
	children [][]int32
	all      []lineageNode
	sums     []*wire.Usage // of those asked for so far
}

func newSubtreeTotals(all []lineageNode, usage func(event.ID) (Use, bool)) *subtreeTotals {
	f := &subtreeTotals{usage: usage, all: all, place: make(map[event.ID]int32, len(all)),
		children: make([][]int32, len(all)), sums: make([]*wire.Usage, len(all))}
	for i := range all {
		f.place[all[i].id] = int32(i)
	}
	for i := range all {
		if above, ok := f.place[all[i].spawner]; ok {
			f.children[above] = append(f.children[above], int32(i))
		}
	}
	return f
}

// sum returns what a process uses with its living descendants by lineage, also those
// below dead ones. The result is not to be changed.
func (f *subtreeTotals) sum(id event.ID) *wire.Usage {
	i, ok := f.place[id]
	if !ok {
		return &wire.Usage{}
	}
	return f.sumAt(i)
}

func (f *subtreeTotals) sumAt(i int32) *wire.Usage {
	if f.sums[i] != nil {
		return f.sums[i]
	}
	sum := &wire.Usage{}
	if !f.all[i].dead {
		sum.Processes = 1
		if u, ok := f.usage(f.all[i].id); ok {
			add(&sum.RSSBytes, &u.RSS)
			add(&sum.SwapBytes, &u.Swap)
			add(&sum.CPUPercent, u.CPUPercent)
		}
	}
	for _, c := range f.children[i] {
		below := f.sumAt(c)
		sum.Processes += below.Processes
		add(&sum.RSSBytes, below.RSSBytes)
		add(&sum.SwapBytes, below.SwapBytes)
		add(&sum.CPUPercent, below.CPUPercent)
	}
	f.sums[i] = sum
	return sum
}

// add adds what is known to what is known so far.
func add[T uint64 | float64](to **T, n *T) {
	if n == nil {
		return
	}
	if *to == nil {
		*to = new(T)
	}
	**to += *n
}

// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
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

// A Node is a process's place in the lineage.
type Node struct {
	ID, Spawner event.ID
	Dead        bool
}

// Totals sum up what processes use together with their living descendants.
type Totals struct {
	usage    func(event.ID) (Use, bool)
	place    map[event.ID]int32
	children [][]int32
	all      []Node
	sums     []*wire.Usage // of those asked for so far
}

// NewTotals returns the totals of all processes; usage says false of whom it does not know.
func NewTotals(all []Node, usage func(event.ID) (Use, bool)) *Totals {
	f := &Totals{usage: usage, all: all, place: make(map[event.ID]int32, len(all)),
		children: make([][]int32, len(all)), sums: make([]*wire.Usage, len(all))}
	for i := range all {
		f.place[all[i].ID] = int32(i)
	}
	for i := range all {
		if above, ok := f.place[all[i].Spawner]; ok {
			f.children[above] = append(f.children[above], int32(i))
		}
	}
	return f
}

// Sum returns what a process uses with its living descendants by lineage, also those
// below dead ones. The result is not to be changed.
func (f *Totals) Sum(id event.ID) *wire.Usage {
	i, ok := f.place[id]
	if !ok {
		return &wire.Usage{}
	}
	return f.sumAt(i)
}

func (f *Totals) sumAt(i int32) *wire.Usage {
	if f.sums[i] != nil {
		return f.sums[i]
	}
	sum := &wire.Usage{}
	if !f.all[i].Dead {
		sum.Processes = 1
		if u, ok := f.usage(f.all[i].ID); ok {
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

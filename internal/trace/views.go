// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// views converts for those who ask, off the loop: the loop only copies.
type views struct {
	mu   sync.Mutex
	conv converter
}

// Tree returns every living process and the dead ones that their lineage needs, with
// the memory that each uses now. From any goroutine.
func (t *Tracer) Tree(ctx context.Context) (*wire.Tree, error) {
	usage, err := t.usage()
	if err != nil {
		return nil, err
	}
	var all []tracker.Process
	if err := t.Do(ctx, func(tree *tracker.Tree) { all = copyAll(tree) }); err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	doc := &wire.Tree{Schema: wire.Schema, Host: host, Time: time.Now(), Complete: true,
		Processes: make([]wire.Process, 0, len(all))}
	slices.SortFunc(all, func(a, b tracker.Process) int {
		return cmp.Or(cmp.Compare(a.ID.Start, b.ID.Start), cmp.Compare(a.ID.PID, b.ID.PID))
	})
	t.views.mu.Lock()
	defer t.views.mu.Unlock()
	t.views.conv.offset = bootOffset()
	for i := range all {
		doc.Complete = doc.Complete && all[i].Lineage == tracker.LineageObserved
		doc.Processes = append(doc.Processes, *t.describe(&all[i], usage))
	}
	addUsage(doc.Processes)
	return doc, nil
}

// copyAll copies the tree's processes so that they outlive the call on the loop.
func copyAll(tree *tracker.Tree) []tracker.Process {
	all := make([]tracker.Process, 0, tree.Living()+tree.Living()/8)
	for p := range tree.All(false) {
		if p.Orphan != nil {
			o := *p.Orphan
			p.Orphan = &o
		}
		all = append(all, p)
	}
	return all
}

// DescribeHere returns what the tree knows of a process, nil where it is not in it. On
// the loop.
func (t *Tracer) DescribeHere(id event.ID) *wire.Process {
	p, ok := t.tree.Get(id)
	if !ok {
		return nil
	}
	return t.conv.process(&p)
}

func (t *Tracer) describe(p *tracker.Process, usage map[event.ID]*event.Task) *wire.Process {
	w := t.views.conv.process(p)
	if task := usage[p.ID]; task != nil && !p.Dead {
		w.RSSBytes, w.SwapBytes = &task.RSS, &task.Swap
		w.Threads = task.Threads
		seconds := time.Duration(task.CPU).Seconds()
		w.CPUSeconds = &seconds
	}
	return w
}

// usage asks the kernel what every process uses now.
func (t *Tracer) usage() (map[event.ID]*event.Task, error) {
	tasks, err := t.source.Tasks()
	if err != nil {
		return nil, err
	}
	tasks = withParents(t.proc, tasks)
	usage := make(map[event.ID]*event.Task, len(tasks))
	for i := range tasks {
		usage[tasks[i].ID] = &tasks[i]
	}
	return usage, nil
}

// addUsage gives each living orphan the sum of itself and its living descendants by
// lineage. Parents may stand before or after their children.
func addUsage(processes []wire.Process) {
	type key struct {
		pid   int32
		start uint64
	}
	children := make(map[key][]int, len(processes))
	for i := range processes {
		if s := processes[i].SpawnedBy; s != nil {
			k := key{s.PID, s.StartNS}
			children[k] = append(children[k], i)
		}
	}
	var sum func(i int, u *wire.Usage)
	sum = func(i int, u *wire.Usage) {
		p := &processes[i]
		if p.State == wire.StateRunning {
			u.Processes++
			addBytes(&u.RSSBytes, p.RSSBytes)
			addBytes(&u.SwapBytes, p.SwapBytes)
		}
		for _, c := range children[key{p.PID, p.StartNS}] {
			sum(c, u)
		}
	}
	for i := range processes {
		if p := &processes[i]; p.Orphan != nil && p.State == wire.StateRunning {
			p.Orphan.Tree = &wire.Usage{}
			sum(i, p.Orphan.Tree)
		}
	}
}

func addBytes(to **uint64, n *uint64) {
	if n == nil {
		return
	}
	if *to == nil {
		*to = new(uint64)
	}
	**to += *n
}

// Orphans returns the living orphans, with their trees' memory. From any goroutine.
func (t *Tracer) Orphans(ctx context.Context) ([]wire.Process, error) {
	doc, err := t.Tree(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(doc.Processes, func(p wire.Process) bool {
		return p.Orphan == nil || p.State != wire.StateRunning
	}), nil
}

// ErrNoProcess is returned for a pid that nothing is known of.
var ErrNoProcess = fmt.Errorf("no such process")

// Process returns the living process with that pid, or else the last one that died
// with it. From any goroutine.
func (t *Tracer) Process(ctx context.Context, pid int32) (*wire.Process, error) {
	var p tracker.Process
	var ok bool
	err := t.Do(ctx, func(tree *tracker.Tree) {
		id, living := tree.Lookup(pid)
		if !living {
			id, _ = tree.LastDead(pid)
		}
		if p, ok = tree.Get(id); ok && p.Orphan != nil {
			o := *p.Orphan
			p.Orphan = &o
		}
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %d", ErrNoProcess, pid)
	}
	usage, err := t.usage()
	if err != nil {
		return nil, err
	}
	t.views.mu.Lock()
	defer t.views.mu.Unlock()
	t.views.conv.offset = bootOffset()
	return t.describe(&p, usage), nil
}

// past is a part of what is remembered of the stream.
type past struct {
	events  []*wire.Event
	records []record
}

// past copies what is remembered of the types named since the CLOCK_BOOTTIME instant. On
// the loop.
func (t *Tracer) past(want typeSet, since uint64) (p past) {
	t.notable.all(func(e **wire.Event) {
		if want.has((*e).Type) && (*e).TimeNS >= since {
			p.events = append(p.events, *e)
		}
	})
	t.lifecycle.all(func(r *record) {
		if want.has(lifecycleTypes[r.kind]) && r.time >= since {
			p.records = append(p.records, *r)
		}
	})
	return p
}

// tell makes the events, in order.
func (t *Tracer) tell(p past) []*wire.Event {
	t.views.mu.Lock()
	defer t.views.mu.Unlock()
	t.views.conv.offset = bootOffset()
	for i := range p.records {
		p.events = append(p.events, t.expand(&p.records[i], &t.views.conv))
	}
	slices.SortFunc(p.events, func(a, b *wire.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return p.events
}

// Recent returns what is remembered of the stream: events of the types named (all,
// when there are none) that happened at the CLOCK_BOOTTIME instant since or later.
// From any goroutine.
func (t *Tracer) Recent(ctx context.Context, types []string, since uint64) ([]*wire.Event, error) {
	var past past
	if err := t.Do(ctx, func(*tracker.Tree) { past = t.past(newTypeSet(types), since) }); err != nil {
		return nil, err
	}
	return t.tell(past), nil
}

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
	slices.SortFunc(all, byAge)
	places := make([]kin, 0, len(all))
	for i := range all {
		places = append(places, kin{all[i].ID, all[i].Spawner, all[i].Dead})
	}
	woods := newForest(places, usage)
	t.views.mu.Lock()
	defer t.views.mu.Unlock()
	t.views.conv.offset = bootOffset()
	for i := range all {
		doc.Complete = doc.Complete && all[i].Lineage == tracker.LineageObserved
		w := t.views.describe(&all[i], usage)
		if w.Orphan != nil && !all[i].Dead {
			w.Orphan.Tree = woods.sum(all[i].ID)
		}
		doc.Processes = append(doc.Processes, *w)
	}
	return doc, nil
}

// byAge orders processes, the oldest first.
func byAge(a, b tracker.Process) int {
	return cmp.Or(cmp.Compare(a.ID.Start, b.ID.Start), cmp.Compare(a.ID.PID, b.ID.PID))
}

// copyAll copies the tree's processes so that they outlive the call on the loop.
func copyAll(tree *tracker.Tree) []tracker.Process {
	all := make([]tracker.Process, 0, tree.Living()+tree.Living()/8)
	for p := range tree.All(false) {
		all = append(all, copyOf(p))
	}
	return all
}

func copyOf(p tracker.Process) tracker.Process {
	if p.Orphan != nil {
		o := *p.Orphan
		p.Orphan = &o
	}
	return p
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

// describe converts a process with what it uses now.
func (v *views) describe(p *tracker.Process, usage func(event.ID) (Use, bool)) *wire.Process {
	w := v.conv.process(p)
	if p.Dead {
		return w
	}
	if u, ok := usage(p.ID); ok {
		w.RSSBytes, w.SwapBytes, w.CPUPercent = &u.RSS, &u.Swap, u.CPUPercent
		w.Threads = u.Threads
		seconds := u.CPU.Seconds()
		w.CPUSeconds = &seconds
	}
	return w
}

// usage asks the kernel what every process uses now.
func (t *Tracer) usage() (func(event.ID) (Use, bool), error) {
	tasks, err := t.source.Tasks()
	if err != nil {
		return nil, err
	}
	tasks = withParents(t.proc, tasks)
	found := make(map[event.ID]*event.Task, len(tasks))
	for i := range tasks {
		found[tasks[i].ID] = &tasks[i]
	}
	return func(id event.ID) (Use, bool) {
		task := found[id]
		if task == nil {
			return Use{}, false
		}
		return Use{RSS: task.RSS, Swap: task.Swap, Threads: task.Threads, CPU: time.Duration(task.CPU)}, true
	}, nil
}

// Orphans returns the living orphans, with what they and their trees use now. From any
// goroutine.
func (t *Tracer) Orphans(ctx context.Context) ([]wire.Process, error) {
	usage, err := t.usage()
	if err != nil {
		return nil, err
	}
	return t.OrphansUsing(ctx, usage)
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
		if p, ok = tree.Get(id); ok {
			p = copyOf(p)
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
	return t.views.describe(&p, usage), nil
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

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

	"github.com/abot-trace/abot-trace/internal/boottime"
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
	look, err := t.takeSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	doc := &wire.Tree{Schema: wire.Schema, Host: host, Time: look.time, Complete: look.complete,
		Processes: make([]wire.Process, 0, len(look.all))}
	usage, err := look.usage()
	if err != nil {
		return nil, err
	}
	totals := sync.OnceValue(func() *subtreeTotals { return newSubtreeTotals(look.lineage(), usage) })
	scratches := make([]processScratch, len(look.all))
	t.views.mu.Lock()
	defer t.views.mu.Unlock()
	t.views.conv.offset = boottime.Offset()
	for _, place := range look.order {
		p := &look.all[place.at]
		w := t.views.describe(&scratches[place.at], p, usage)
		if w.Orphan != nil && !p.Dead {
			w.Orphan.Tree = totals().sum(p.ID)
		}
		doc.Processes = append(doc.Processes, *w)
	}
	return doc, nil
}

// A snapshot is the tree at one instant.
type snapshot struct {
	time     time.Time
	all      []tracker.Process
	order    []snapshotEntry // the oldest first
	complete bool            // each lineage was observed
	// usage waits for what the kernel says that every process uses.
	usage func() (func(event.ID) (Use, bool), error)
}

// A snapshotEntry is where in a look a process is, with what it is ordered by: processes are
// large to move.
type snapshotEntry struct {
	id event.ID
	at int32
}

// takeSnapshot copies the tree. The kernel is asked meanwhile, which takes longer.
func (t *Tracer) takeSnapshot(ctx context.Context) (*snapshot, error) {
	l := &snapshot{usage: sync.OnceValues(t.usage)}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = l.usage()
	}()
	living := int(t.stats.living.Load())
	room := make([]tracker.Process, 0, living+living/8) // not on the loop
	if err := t.Do(ctx, func(tree *tracker.Tree) { l.all = copyAll(tree, room) }); err != nil {
		<-asked
		return nil, err
	}
	l.time = time.Now()
	l.arrange()
	return l, nil
}

// arrange looks through what was copied.
func (l *snapshot) arrange() {
	l.complete = true
	l.order = make([]snapshotEntry, len(l.all))
	for i := range l.all {
		l.order[i] = snapshotEntry{l.all[i].ID, int32(i)}
		l.complete = l.complete && l.all[i].Lineage == tracker.LineageObserved
	}
	slices.SortFunc(l.order, func(a, b snapshotEntry) int { return byAge(a.id, b.id) })
}

// lineage is where in the lineage each process is.
func (l *snapshot) lineage() []lineageNode {
	places := make([]lineageNode, 0, len(l.all))
	for i := range l.all {
		places = append(places, lineageNode{l.all[i].ID, l.all[i].Spawner, l.all[i].Dead})
	}
	return places
}

// byAge orders processes, the oldest first.
func byAge(a, b event.ID) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
}

// copyAll appends copies of the tree's processes, which outlive the call on the loop.
func copyAll(tree *tracker.Tree, all []tracker.Process) []tracker.Process {
	first := len(all)
	all = tree.AppendAll(all)
	for i := first; i < len(all); i++ {
		if o := all[i].Orphan; o != nil {
			c := *o
			all[i].Orphan = &c
		}
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

// DescribeOnLoop returns what the tree knows of a process, nil where it is not in it. On
// the loop.
func (t *Tracer) DescribeOnLoop(id event.ID) *wire.Process {
	p, ok := t.tree.Get(id)
	if !ok {
		return nil
	}
	return t.conv.process(&p)
}

// describe converts a process with what it uses now into a room, of which all is written
// anew.
func (v *views) describe(r *processScratch, p *tracker.Process, usage func(event.ID) (Use, bool)) *wire.Process {
	w := v.conv.fill(r, p)
	if p.Dead {
		return w
	}
	if u, ok := usage(p.ID); ok {
		r.use, r.seconds = u, u.CPU.Seconds()
		w.RSSBytes, w.SwapBytes, w.CPUPercent = &r.use.RSS, &r.use.Swap, u.CPUPercent
		w.Threads, w.CPUSeconds = u.Threads, &r.seconds
	}
	return w
}

// usage asks the kernel what every process uses now.
func (t *Tracer) usage() (func(event.ID) (Use, bool), error) {
	tasks, err := t.source.Usage()
	if err != nil {
		return nil, err
	}
	tasks, places := t.proc.AddMissingParents(tasks)
	return func(id event.ID) (Use, bool) {
		i, ok := places[id]
		if !ok {
			return Use{}, false
		}
		task := &tasks[i]
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
	t.views.conv.offset = boottime.Offset()
	return t.views.describe(new(processScratch), &p, usage), nil
}

// pastEvents is a part of what is remembered of the stream.
type pastEvents struct {
	events  []*wire.Event
	records []record
}

// past copies what is remembered of the types named since the CLOCK_BOOTTIME instant. On
// the loop.
func (t *Tracer) past(want typeSet, since uint64) (p pastEvents) {
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

// buildEvents makes the events, in order.
func (t *Tracer) buildEvents(p pastEvents) []*wire.Event {
	t.views.mu.Lock()
	defer t.views.mu.Unlock()
	t.views.conv.offset = boottime.Offset()
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
	var past pastEvents
	if err := t.Do(ctx, func(*tracker.Tree) { past = t.past(newTypeSet(types), since) }); err != nil {
		return nil, err
	}
	return t.buildEvents(past), nil
}

// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"runtime"
	"time"

	"github.com/abot-trace/abot-trace/internal/container"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/inbox"
	"github.com/abot-trace/abot-trace/internal/leakfeed"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// ErrStopped is returned by what needs a running tracer.
var ErrStopped = inbox.ErrStopped

// TreeOnLoop returns the tree, for callers on the loop.
func (t *Tracer) TreeOnLoop() *tracker.Tree { return t.tree }

// Leases returns the table of leases, for callers on the loop.
func (t *Tracer) Leases() *lease.Table { return t.leases }

// Leaks returns the leaks, for callers on the loop.
func (t *Tracer) Leaks() *leakfeed.Feed { return t.leaks }

// IsJudging reports whether orphans wait for their first verdict, for callers on the loop.
func (t *Tracer) IsJudging() bool { return t.evidence.HasNews() }

// IDPrefix is what the ids of this start's events and kills begin with.
func (t *Tracer) IDPrefix() string { return t.stream.IDPrefix() }

// Publish adds an event of the caller's own (a kill, an alert) to the stream, which
// numbers it. From any goroutine but the loop's; e must not be changed afterwards.
func (t *Tracer) Publish(e *wire.Event) { t.Post(func() { t.publish(e, 0) }) }

// PublishOnLoop is Publish for callers on the loop.
func (t *Tracer) PublishOnLoop(e *wire.Event) { t.publish(e, 0) }

// Post runs fn on the loop, some time; from any goroutine but the loop's.
func (t *Tracer) Post(fn func()) { t.inbox.Post(fn) }

// Do runs fn on the loop and waits for it. fn owns the tree while it runs, and is to
// be brief: nothing is read meanwhile.
func (t *Tracer) Do(ctx context.Context, fn func(*tracker.Tree)) error {
	return t.inbox.Do(ctx, func() { fn(t.tree) })
}

// DoDrained is Do after everything that has happened before the call was applied: what fn
// sees holds every fork, exec and exit that was over by then.
func (t *Tracer) DoDrained(ctx context.Context, fn func(*tracker.Tree)) error {
	return t.Do(ctx, func(tree *tracker.Tree) {
		t.drain()
		fn(tree)
	})
}

// drain applies what the ring holds. Whoever writes a record can be interrupted in it,
// and those behind it must wait then: that is given a moment.
func (t *Tracer) drain() {
	t.drained, t.draining = false, true
	defer func() { t.draining = false }()
	began := time.Now()
	for range maxDrain {
		if t.source.Read(readBatch, t.handle) > 0 {
			continue
		}
		if t.source.Pending() == 0 {
			t.drained = true
			return
		}
		if time.Since(began) > busyPatience {
			return
		}
		runtime.Gosched()
	}
}

// busyPatience bounds the wait for a record that is being written.
const busyPatience = time.Millisecond

// Complete reports whether no record is known to be missing from the tree as it stands,
// none waiting behind one that is still being written. In a call of DoDrained.
func (t *Tracer) Complete() bool {
	return t.resyncWhy == "" && t.missing.Records == 0 && t.drained && t.tree.Refused() == t.source.Refused()
}

// A Mark is a state of the tree, to be asked later whether it is the latest still.
type Mark struct {
	at, refused uint64
	complete    bool
}

// DrainOnLoop applies what has happened until now, and returns the mark of that. On the
// loop, between two records.
func (t *Tracer) DrainOnLoop() Mark {
	t.drain()
	return t.MarkOnLoop()
}

// MarkOnLoop returns the mark of what was applied so far. On the loop, between two records.
func (t *Tracer) MarkOnLoop() Mark {
	return Mark{at: t.source.Mark(), refused: t.source.Refused(), complete: t.Complete()}
}

// Complete reports whether the tree had every record of what had happened.
func (m Mark) Complete() bool { return m.complete }

// Unchanged reports whether the tree of the mark was whole and nothing has happened to
// any process since. From any goroutine; it costs next to nothing.
func (t *Tracer) Unchanged(m Mark) bool {
	return m.complete && t.inbox.WhileOpen(func() bool { return t.source.Refused() == m.refused && t.source.Untouched(m.at) })
}

// DescribeOnLoop describes a process, nil where the tree does not have it. On the loop.
func (t *Tracer) DescribeOnLoop(id event.ID) *wire.Process {
	p, ok := t.tree.Get(id)
	if !ok {
		return nil
	}
	return t.conv.Process(&p)
}

// Filled is closed when the command lines of older processes are read. From any goroutine.
func (t *Tracer) Filled() <-chan struct{} { return t.evidence.Filled() }

// ReadNow has programs and marks of the processes read, and then calls fn on the loop,
// whatever could be read: within half a second. On the loop.
func (t *Tracer) ReadNow(ids []event.ID, fn func()) { t.evidence.ReadNow(ids, fn) }

// ReadSoon has program and marks read where they are not known, and OnRead called. On the loop.
func (t *Tracer) ReadSoon(id event.ID) { t.evidence.ReadSoon(id) }

// Group returns the path and the unit of the process's control group. On the loop.
func (t *Tracer) Group(p *tracker.Process) (cgroup, unit string) {
	g := t.names.Group(p.ID, p.Cgroup, !p.Dead)
	return g.Path, g.UnitName()
}

// Container returns what is known of the process's container beside its id; known is false
// while that is being found out. On the loop.
func (t *Tracer) Container(p *tracker.Process) (id string, info container.Info, known bool) {
	g := t.names.Group(p.ID, p.Cgroup, !p.Dead)
	info, known = t.names.Container(g)
	return g.Container.ID, info, known
}

// User returns the name of a user. On the loop.
func (t *Tracer) User(uid uint32) string { return t.names.User(uid) }

// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"strconv"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// publish numbers a notable event that happened at the CLOCK_BOOTTIME instant ns,
// remembers it and hands it out.
func (t *Tracer) publish(e *wire.Event, ns uint64) {
	if ns == 0 {
		ns = BootNow()
	}
	t.seq++
	t.complete(e, t.seq, ns, t.conv.offset)
	t.stats.published(e.Type)
	t.notable.add(e)
	t.hub.publish(e)
	t.hub.flush()
	if t.onEvent != nil {
		t.onEvent(e)
	}
}

// Publish adds an event of the caller's own (a kill, an alert) to the stream, which
// numbers it. From any goroutine but the loop's; e must not be changed afterwards.
func (t *Tracer) Publish(e *wire.Event) { t.post(func() { t.publish(e, BootNow()) }) }

// PublishHere is Publish for callers on the loop.
func (t *Tracer) PublishHere(e *wire.Event) { t.publish(e, BootNow()) }

func (t *Tracer) complete(e *wire.Event, seq, ns uint64, offset int64) {
	e.Schema, e.Seq, e.TimeNS = wire.Schema, seq, ns
	if e.ID == "" {
		e.ID = t.idPrefix + "-" + strconv.FormatUint(seq, 10)
	}
	e.Time = wallTime(offset, ns)
}

// remember keeps a lifecycle event in short, and hands it out where anyone listens.
func (t *Tracer) remember(c *tracker.Change) {
	p, ok := t.tree.Get(c.ID)
	if !ok {
		return
	}
	t.seq++
	if c.Time == 0 {
		c.Time = BootNow() // its exit was not seen, only that it is gone
	}
	r := t.lifecycle.slot()
	*r = record{seq: t.seq, time: c.Time, kind: c.Kind, process: p, signal: c.Signal}
	if p.Orphan != nil {
		o := *p.Orphan
		r.process.Orphan = &o
	}
	switch c.Kind {
	case tracker.Forked:
		t.canary.sawFork(&p)
	case tracker.Exited:
		t.sawLeaseExit(&p)
	}
	if kind := lifecycleTypes[c.Kind]; t.hub.wants(kind) {
		if t.hub.shares(kind) {
			t.hub.publish(t.expand(r, &t.conv))
		} else {
			t.hub.publish(t.expandInto(&t.desk, r, &t.conv))
		}
	}
}

// A desk is where an event is made that nobody keeps.
type desk struct {
	event wire.Event
	room  room
}

var lifecycleTypes = [...]string{
	tracker.Forked:   wire.TypeFork,
	tracker.Execed:   wire.TypeExec,
	tracker.Exited:   wire.TypeExit,
	tracker.Signaled: wire.TypeSignal,
}

// expand makes the event of a record.
func (t *Tracer) expand(r *record, conv *converter) *wire.Event {
	return t.expandInto(new(desk), r, conv)
}

// expandInto is expand on a desk, of which all is written anew.
func (t *Tracer) expandInto(d *desk, r *record, conv *converter) *wire.Event {
	e := &d.event
	*e = wire.Event{Type: lifecycleTypes[r.kind], Process: conv.fill(&d.room, &r.process)}
	if r.kind == tracker.Signaled {
		e.Signal = &wire.Signal{Signal: event.SignalName(r.signal.Signal)}
		if !r.signal.FromKernel {
			e.Signal.Sender = &wire.Sender{PID: r.signal.Sender.PID, Comm: r.signal.SenderComm.String(), UID: r.signal.SenderUID}
		}
	}
	t.complete(e, r.seq, r.time, conv.offset)
	return e
}

// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// publish numbers a notable event that happened at the CLOCK_BOOTTIME instant ns,
// remembers it and hands it out.
func (t *Tracer) publish(e *wire.Event, ns uint64) {
	if ns == 0 {
		ns = boottime.Now()
	}
	t.seq++
	t.complete(e, t.seq, ns, t.conv)
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
func (t *Tracer) Publish(e *wire.Event) { t.post(func() { t.publish(e, boottime.Now()) }) }

// PublishOnLoop is Publish for callers on the loop.
func (t *Tracer) PublishOnLoop(e *wire.Event) { t.publish(e, boottime.Now()) }

func (t *Tracer) complete(e *wire.Event, seq, ns uint64, conv *describe.Converter) {
	e.Schema, e.Seq, e.TimeNS = wire.Schema, seq, ns
	if e.ID == "" {
		e.ID = t.idPrefix + "-" + strconv.FormatUint(seq, 10)
	}
	e.Time = conv.Wall(ns)
}

// remember keeps a lifecycle event in short, and hands it out where anyone listens. It
// returns the process as it was kept, nil where the tree does not know it.
func (t *Tracer) remember(c *tracker.Change) *tracker.Process {
	r := t.lifecycle.slot()
	if !t.tree.Describe(c, &r.process) {
		return nil
	}
	t.lifecycle.keep()
	t.seq++
	if c.Time == 0 {
		c.Time = boottime.Now() // its exit was not seen, only that it is gone
	}
	r.seq, r.time, r.kind, r.signal = t.seq, c.Time, c.Kind, c.Signal
	p := &r.process
	if p.Orphan != nil {
		o := *p.Orphan
		p.Orphan = &o
	}
	switch c.Kind {
	case tracker.Forked:
		t.canary.observeFork(p)
	case tracker.Exited:
		t.leases.ObserveExit(p)
	}
	if kind := lifecycleKinds[c.Kind]; t.hub.wants(kind) {
		if t.hub.shares(kind) {
			t.hub.publish(t.expand(r, t.conv))
		} else {
			t.hub.publish(t.expandInto(&t.scratch, r, t.conv))
		}
	}
	return p
}

// An eventScratch is where an event is made that nobody keeps.
type eventScratch struct {
	event   wire.Event
	process describe.Scratch
	// ids holds the ids of some events, one after another.
	ids strings.Builder
}

// scratchIDBytes is how many bytes of ids are allocated at once.
const scratchIDBytes = 4 << 10

// id is the event's id, out of memory that other events' ids share.
func (d *eventScratch) id(prefix string, seq uint64) string {
	if d.ids.Cap()-d.ids.Len() < len(prefix)+32 {
		d.ids.Reset()
		d.ids.Grow(scratchIDBytes)
	}
	begin := d.ids.Len()
	var digits [20]byte
	d.ids.WriteString(prefix)
	d.ids.WriteByte('-')
	d.ids.Write(strconv.AppendUint(digits[:0], seq, 10))
	return d.ids.String()[begin:]
}

var lifecycleTypes = [...]string{
	tracker.Forked:   wire.TypeFork,
	tracker.Execed:   wire.TypeExec,
	tracker.Exited:   wire.TypeExit,
	tracker.Signaled: wire.TypeSignal,
}

var lifecycleKinds = [...]typeSet{
	tracker.Forked:   typeBit(wire.TypeFork),
	tracker.Execed:   typeBit(wire.TypeExec),
	tracker.Exited:   typeBit(wire.TypeExit),
	tracker.Signaled: typeBit(wire.TypeSignal),
}

// expand makes the event of a record.
func (t *Tracer) expand(r *record, conv *describe.Converter) *wire.Event {
	return t.expandInto(new(eventScratch), r, conv)
}

// expandInto is expand into a scratch, of which all is written anew.
func (t *Tracer) expandInto(d *eventScratch, r *record, conv *describe.Converter) *wire.Event {
	e := &d.event
	*e = wire.Event{Type: lifecycleTypes[r.kind], Process: conv.Fill(&d.process, &r.process)}
	if r.kind == tracker.Signaled {
		e.Signal = &wire.Signal{Signal: event.SignalName(r.signal.Signal)}
		if !r.signal.FromKernel {
			e.Signal.Sender = &wire.Sender{PID: r.signal.Sender.PID, Comm: r.signal.SenderComm.String(), UID: r.signal.SenderUID}
		}
	}
	if d == &t.scratch {
		e.ID = d.id(t.idPrefix, r.seq)
	}
	t.complete(e, r.seq, r.time, conv)
	return e
}

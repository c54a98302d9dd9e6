// SPDX-License-Identifier: Apache-2.0

// Package stream numbers what happens, remembers some of it, and hands it to readers: as
// events to those who keep them, as lines of JSON, written once, to those who pass them on.
//
//	change of the tree -> record --+-> remembered
//	                               +-> described, where anyone reads its type -> events, lines
//	notable event -----------------+
package stream

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Loop owns the tree, and is the stream's publisher.
type Loop interface {
	// Do runs fn on the loop and waits for it.
	Do(ctx context.Context, fn func(*tracker.Tree)) error
}

// What is remembered of the stream.
const (
	recentLifecycle = 4096 // forks, execs, exits, fatal signals
	recentNotable   = 4096 // everything else
)

// A Stream is the events of one tracer in their order. Only the loop publishes; readers are
// on other goroutines.
type Stream struct {
	loop      Loop
	conv      *describe.Converter // the loop's
	scratch   eventScratch
	seq       uint64
	idPrefix  string
	lifecycle recent[record]
	notable   recent[*wire.Event]
	hub       hub
	keep      func(*wire.Event) // see KeepNotable

	mu     sync.Mutex
	values *describe.Converter // with mu: for who asks for what is remembered
}

// New returns a stream without readers. conv is used on the loop only.
func New(loop Loop, conv *describe.Converter) *Stream {
	return &Stream{
		loop:      loop,
		conv:      conv,
		idPrefix:  eventIDPrefix(),
		lifecycle: newRecent[record](recentLifecycle),
		notable:   newRecent[*wire.Event](recentNotable),
		values:    describe.NewConverter(describe.NewNames(nil)),
	}
}

// eventIDPrefix makes event ids unique: machine, boot, and this start.
func eventIDPrefix() string {
	short := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil || len(b) < 8 {
			return "00000000"
		}
		return string(b[:8])
	}
	return fmt.Sprintf("%s-%s-%x", short("/etc/machine-id"), short("/proc/sys/kernel/random/boot_id"), boottime.Now()/1e6)
}

// IDPrefix is what the ids of this start's events and kills begin with.
func (s *Stream) IDPrefix() string { return s.idPrefix }

// Machine names this machine in this boot, as the ids of events begin.
func (s *Stream) Machine() string { return s.idPrefix[:strings.LastIndexByte(s.idPrefix, '-')] }

// OrphanEventID names the orphaning of a process, which happens once in its life: told
// again after a tracer was killed, it has the same id, and readers drop it.
func (s *Stream) OrphanEventID(id event.ID) string {
	return fmt.Sprintf("%s-orphan-%d-%x", s.Machine(), id.PID, id.Start)
}

// Publish numbers a notable event that happened at the CLOCK_BOOTTIME instant ns (0 is
// now), remembers it and hands it out. e must not be changed afterwards. On the loop.
func (s *Stream) Publish(e *wire.Event, ns uint64) {
	if ns == 0 {
		ns = boottime.Now()
	}
	s.seq++
	s.complete(e, s.seq, ns, s.conv)
	if s.keep != nil {
		s.keep(e)
	}
	s.notable.add(e)
	s.hub.publish(e)
	s.hub.flush()
}

// KeepNotable has keep called with each notable event from now on, before anyone gets it: it
// may number it. On the loop.
func (s *Stream) KeepNotable(keep func(*wire.Event)) { s.keep = keep }

// Seq is the number of the last event. On the loop.
func (s *Stream) Seq() uint64 { return s.seq }

// complete adds what every event has.
func (s *Stream) complete(e *wire.Event, seq, ns uint64, conv *describe.Converter) {
	e.Schema, e.Seq, e.TimeNS = wire.Schema, seq, ns
	if e.ID == "" {
		e.ID = s.idPrefix + "-" + strconv.FormatUint(seq, 10)
	}
	e.Time = conv.Wall(ns)
}

// A record is one lifecycle event, kept in short until somebody asks for it.
type record struct {
	seq     uint64
	time    uint64
	kind    tracker.ChangeKind
	process tracker.Process
	sent    *tracker.Sent
}

// Record keeps a lifecycle event in short, and hands it out where anyone listens. It
// returns the process as it was kept, good until the next call, nil where the tree does not
// know it. The tree must not have changed since. On the loop.
func (s *Stream) Record(tree *tracker.Tree, c *tracker.Change) *tracker.Process {
	r := s.lifecycle.slot()
	if !tree.Describe(c, &r.process) {
		return nil
	}
	s.lifecycle.keep()
	s.seq++
	if c.Time == 0 {
		c.Time = boottime.Now() // its exit was not seen, only that it is gone
	}
	r.seq, r.time, r.kind, r.sent = s.seq, c.Time, c.Kind, c.Sent
	p := &r.process
	if p.Orphan != nil {
		o := *p.Orphan
		p.Orphan = &o
	}
	if kind := lifecycleKinds[c.Kind]; s.hub.wants(kind) {
		if s.hub.shares(kind) {
			s.hub.publish(s.expand(r, s.conv))
		} else {
			s.hub.publish(s.expandInto(&s.scratch, r, s.conv))
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

var lifecycleKinds = func() (kinds [len(describe.LifecycleTypes)]typeSet) {
	for i, name := range describe.LifecycleTypes {
		kinds[i] = typeBit(name)
	}
	return kinds
}()

// expand makes the event of a record.
func (s *Stream) expand(r *record, conv *describe.Converter) *wire.Event {
	return s.expandInto(new(eventScratch), r, conv)
}

// expandInto is expand into a scratch, of which all is written anew.
func (s *Stream) expandInto(d *eventScratch, r *record, conv *describe.Converter) *wire.Event {
	e := &d.event
	conv.Lifecycle(e, &d.process, r.kind, &r.process, r.sent)
	if d == &s.scratch {
		e.ID = d.id(s.idPrefix, r.seq)
	}
	s.complete(e, r.seq, r.time, conv)
	return e
}

// FlushPaced tells readers of lines that can wait that there are some: at once after a
// while without any, and when found says that no more come, but of a storm some at a time.
// On the loop.
func (s *Stream) FlushPaced(found int) { s.hub.flushPaced(found) }

// Close ends every reader's view of the stream.
func (s *Stream) Close() { s.hub.close() }

// SPDX-License-Identifier: Apache-2.0

package past

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"time"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// FollowAll is Follow for all events: a cursor is then a place in the stream, and the tree is
// made again for as long as the reader stays.
func FollowAll(ctx context.Context, store *history.Store, cursor string, types []string, follow bool, write func([]byte) error) error {
	at, err := place(store, history.Stream, cursor)
	if err != nil {
		return err
	}
	r := &allReader{place: history.Place{Next: at}, follow: follow, lineReader: lineReader{store: store, types: types, write: write}}
	return readOn(ctx, store, follow, r.read)
}

// An allReader reads all events on from a place.
type allReader struct {
	lineReader
	place  history.Place
	follow bool // more may come

	Player
	conv *describe.Converter
	ctx  context.Context
	err  error

	notable func() (*told, bool) // the notable events of this look
	pending *told
	next    uint64    // the first notable one that was not told
	missing time.Time // since when one is waited for
}

// toldPatience is how long a notable event is waited for that the stream says was told: both
// are written together, or one of them not at all.
const toldPatience = 5 * time.Second

// read hands over what is on the disk by now.
func (r *allReader) read(ctx context.Context) error {
	v := r.store.View(history.Stream)
	if first, _, _, _ := v.Span(); r.place.Next < first {
		r.lose(first - r.place.Next)
		r.place.Next = first
	}
	r.ctx, r.err = ctx, nil
	r.OnStart, r.OnChange, r.OnTold = r.start, r.change, r.told
	stop := func() {}
	defer func() { stop() }()
	r.notable, r.pending = func() (*told, bool) {
		next, end := iter.Pull(toldIn(r.store.View(history.Notable), history.Range{FromSeq: r.next}))
		stop, r.notable = end, next
		return next()
	}, nil
	err := v.PlayOn(&r.place, r)
	if r.err == nil {
		r.err = r.flush()
	}
	return errors.Join(r.err, err)
}

// Play implements history.Player.
func (r *allReader) Play(e *history.Entry, asked bool) bool {
	if r.err = r.ctx.Err(); r.err != nil {
		r.err = nil // it leaves in order
		return false
	}
	if asked && e.Seq > r.place.Next {
		r.lose(e.Seq - r.place.Next) // a block that could not be read, or was not written
	}
	if !r.Player.Play(e, asked) {
		return false
	}
	if len(r.buf) >= portion {
		r.err = r.flush()
	}
	return r.err == nil
}

func (r *allReader) start() {
	r.conv = describe.NewConverter(r.Names).At(r.offset())
}

// change writes the events of what an entry changed: each with the cursor of that entry, and
// the last with that of the next one, so that a reader that has had some gets all again.
func (r *allReader) change(changes []tracker.Change, seq uint64, asked bool) bool {
	var events []*wire.Event
	r.lifecycle(changes, func(c *tracker.Change, kind string) bool {
		if asked && wants(r.types, kind) {
			events = append(events, r.event(r.conv, c))
		}
		return true
	})
	for i, e := range events {
		next := seq
		if i == len(events)-1 {
			next++
		}
		r.line(next, wire.AppendEvent(nil, e))
	}
	return true
}

// told writes a notable event. One that is not there yet comes with the next look.
func (r *allReader) told(notable, seq uint64, asked bool) bool {
	if !asked {
		return true
	}
	r.next = max(r.next, notable)
	for r.pending == nil || r.pending.Seq < notable {
		var ok bool
		if r.pending, ok = r.notable(); !ok {
			r.pending = nil
			break
		}
		if r.err = r.pending.err; r.err != nil {
			return false
		}
	}
	switch {
	case r.pending != nil && r.pending.Seq == notable:
		if wants(r.types, typeOf(r.pending.JSON)) {
			r.line(seq+1, r.pending.JSON)
		}
	case r.pending == nil && r.waits():
		return false
	default:
		r.lose(1)
	}
	r.missing = time.Time{}
	return true
}

// waits reports whether a notable event may come yet.
func (r *allReader) waits() bool {
	if r.missing.IsZero() {
		r.missing = time.Now()
	}
	return r.follow && time.Since(r.missing) < toldPatience
}

// line adds a line with the cursor of what follows it.
func (r *allReader) line(next uint64, line []byte) { r.appendWith(history.Stream, next, line) }

// event is the event of a change that lifecycle has handed over.
func (p *Player) event(conv *describe.Converter, c *tracker.Change) *wire.Event {
	e := new(wire.Event)
	conv.Lifecycle(e, new(describe.Scratch), c.Kind, &p.process, c.Sent)
	e.Schema, e.Seq, e.TimeNS = wire.Schema, p.seq, c.Time
	if e.TimeNS == 0 {
		e.TimeNS = p.Time // its exit was not seen
	}
	e.ID = p.Begun.EventIDs + "-" + strconv.FormatUint(p.seq, 10)
	e.Time = conv.Wall(e.TimeNS)
	return e
}

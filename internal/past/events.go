// SPDX-License-Identifier: Apache-2.0

package past

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Query asks for events. Zero values are no bounds.
type Query struct {
	From, To time.Time
	Types    []string // all, where there are none
	PID      int32    // only events about a process with that pid
	Samples  bool     // what was measured, too, as events of type sample
}

// Events hands the events that were told to fn, in order and as they were told: the notable
// from where they are kept as such, the others made again. fn may keep what it gets. It
// returns how many entries could not be read.
func Events(ctx context.Context, src Source, q Query, fn func(*wire.Event) error) (missed uint64, err error) {
	notable := src.View(history.Notable)
	next, stop := iter.Pull(toldIn(notable, history.Range{From: q.From, To: q.To}))
	defer stop()
	r := &eventReader{ctx: ctx, q: &q, fn: fn, next: next}
	r.pull()
	if q.Samples || r.wantsLifecycle() {
		v := src.View(history.Stream)
		r.player = Player{OnStart: r.start, OnChange: r.change, OnTold: r.told, OnSample: r.sample}
		err := v.Play(history.Range{From: q.From, To: q.To, PID: q.PID}, &r.player)
		if missed = v.Missed; err != nil {
			return missed, err
		}
	}
	for r.err == nil && r.pending != nil {
		r.tell()
	}
	return missed + notable.Missed, r.err
}

// A told is a notable event as it was told.
type told struct {
	history.Line
	at   time.Time
	boot string
	err  error
}

// toldIn lists the notable events of a range.
func toldIn(v *history.View, r history.Range) iter.Seq[*told] {
	return func(yield func(*told) bool) {
		ended := false
		err := v.Lines(r, func(head *history.SegmentHead, l history.Line) bool {
			ended = !yield(&told{Line: l, at: head.Wall(l.Time), boot: head.Boot})
			return !ended
		})
		if err != nil && !ended {
			yield(&told{err: err})
		}
	}
}

// typeOf is the type of a line.
func typeOf(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte(`,"type":"`)) // the first is the event's own: see wire.AppendEvent
	kind, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(kind)
}

// An eventReader reads events in order.
type eventReader struct {
	ctx     context.Context
	q       *Query
	fn      func(*wire.Event) error
	next    func() (*told, bool)
	pending *told // the next notable event, nil where there is none
	err     error

	player Player
	conv   *describe.Converter
}

func (r *eventReader) pull() {
	if r.pending, _ = r.next(); r.pending != nil && r.pending.err != nil {
		r.err, r.pending = r.pending.err, nil
	}
}

func (r *eventReader) asked(kind string) bool { return wants(r.q.Types, kind) }

// wants reports whether a type is one of those that are asked for: all, where there are none.
func wants(types []string, kind string) bool { return len(types) == 0 || slices.Contains(types, kind) }

func (r *eventReader) wantsLifecycle() bool {
	return slices.ContainsFunc(describe.LifecycleTypes[:], func(kind string) bool { return kind != "" && r.asked(kind) })
}

// tell hands over the pending notable event, where it is asked for.
func (r *eventReader) tell() {
	l := r.pending
	if r.err = r.ctx.Err(); r.err != nil {
		return
	}
	if r.asked(typeOf(l.JSON)) {
		e := new(wire.Event)
		if err := json.Unmarshal(l.JSON, e); err != nil {
			r.err = fmt.Errorf("notable event %d: %w", l.Seq, err)
			return
		}
		if r.q.PID == 0 || IsAbout(e, r.q.PID) {
			if r.err = r.fn(e); r.err != nil {
				return
			}
		}
	}
	r.pull()
}

// IsAbout reports whether an event concerns a process with that pid: itself, what it forked,
// signalled or left behind.
func IsAbout(e *wire.Event, pid int32) bool {
	if p := e.Process; p != nil {
		left := p.Orphan != nil && p.Orphan.Leaker != nil && p.Orphan.Leaker.PID == pid && e.Type != wire.TypeExit && e.Type != wire.TypeExec
		if p.PID == pid || left || e.Type == wire.TypeFork && p.SpawnedBy != nil && p.SpawnedBy.PID == pid {
			return true
		}
	}
	for _, s := range []*wire.Signal{e.Signal, e.Caught} {
		if s != nil && s.Sender != nil && s.Sender.PID == pid {
			return true
		}
	}
	if k := e.Kill; k != nil {
		return slices.ContainsFunc(k.Processes, func(p wire.Killed) bool { return p.PID == pid })
	}
	if l := e.Leak; l != nil {
		return l.Leaker.PID == pid || slices.ContainsFunc(l.Members, func(m wire.LeakMember) bool { return m.PID == pid })
	}
	return false
}

// start begins a segment. What was told before and is not in the stream comes first.
func (r *eventReader) start() {
	for r.err == nil && r.pending != nil && r.pending.at.Before(r.player.Head.Opened) {
		r.tell()
	}
	r.conv = describe.NewConverter(r.player.Names).At(r.player.offset())
}

func (r *eventReader) told(notable, _ uint64, _ bool) bool {
	for r.err == nil && r.pending != nil && r.pending.Seq <= notable {
		r.tell()
	}
	return r.err == nil
}

// change makes the events of what an entry changed.
func (r *eventReader) change(changes []tracker.Change, _ uint64, asked bool) bool {
	return r.player.lifecycle(changes, func(c *tracker.Change, kind string) bool {
		if !asked || !r.asked(kind) || r.q.PID != 0 && !r.isAboutChange(c) {
			return true
		}
		r.err = errors.Join(r.ctx.Err(), r.fn(r.player.event(r.conv, c)))
		return r.err == nil
	}) && r.err == nil
}

// sample hands over what was measured, where that is asked for.
func (r *eventReader) sample(news *Sample, asked bool) bool {
	if !asked || !r.q.Samples {
		return true
	}
	w := &wire.Sample{Host: news.Host}
	for id, use := range news.Uses {
		p := wire.Sampled{PID: id.PID, StartNS: id.Start}
		if use.RSS != unmeasured {
			rss, swap := use.RSS, use.Swap
			p.RSSBytes, p.SwapBytes = &rss, &swap
		}
		w.Processes = append(w.Processes, p)
	}
	slices.SortFunc(w.Processes, func(a, b wire.Sampled) int {
		return cmp.Or(cmp.Compare(a.StartNS, b.StartNS), cmp.Compare(a.PID, b.PID))
	})
	r.err = r.fn(&wire.Event{Schema: wire.Schema, Type: wire.TypeSample, TimeNS: news.Time, Time: r.conv.Wall(news.Time), Sample: w})
	return r.err == nil
}

// isAboutChange reports whether the change concerns the pid that is asked for.
func (r *eventReader) isAboutChange(c *tracker.Change) bool {
	pid, process := r.q.PID, &r.player.process
	return process.ID.PID == pid || c.Kind == tracker.Forked && process.Spawner.PID == pid ||
		c.Sent != nil && c.Sent.Sender.PID == pid
}

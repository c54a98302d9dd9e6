// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"cmp"
	"context"
	"slices"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A recent is the newest n events, oldest first.
type recent[T any] struct {
	ring []T
	next int
	full bool
}

func newRecent[T any](n int) recent[T] { return recent[T]{ring: make([]T, n)} }

func (r *recent[T]) add(v T) {
	*r.slot() = v
	r.keep()
}

// slot returns the place of the next entry, to be filled in place and then kept.
func (r *recent[T]) slot() *T { return &r.ring[r.next] }

// keep adds what slot's place holds.
func (r *recent[T]) keep() {
	if r.next++; r.next == len(r.ring) {
		r.next, r.full = 0, true
	}
}

// all calls fn for each entry, oldest first.
func (r *recent[T]) all(fn func(*T)) {
	if r.full {
		for i := r.next; i < len(r.ring); i++ {
			fn(&r.ring[i])
		}
	}
	for i := range r.next {
		fn(&r.ring[i])
	}
}

// A Reader is what others may do with a stream, from any goroutine but the loop's.
type Reader struct{ stream *Stream }

// Reader returns the stream's side for readers.
func (s *Stream) Reader() *Reader { return &Reader{s} }

// pastEvents is a part of what is remembered of the stream.
type pastEvents struct {
	events  []*wire.Event
	records []record
}

// past copies what is remembered of the types named since the CLOCK_BOOTTIME instant. On
// the loop.
func (s *Stream) past(want typeSet, since uint64) (p pastEvents) {
	s.notable.all(func(e **wire.Event) {
		if want.has((*e).Type) && (*e).TimeNS >= since {
			p.events = append(p.events, *e)
		}
	})
	s.lifecycle.all(func(r *record) {
		if want.has(describe.LifecycleTypes[r.kind]) && r.time >= since {
			p.records = append(p.records, *r)
		}
	})
	return p
}

// buildEvents makes the events, in order.
func (s *Stream) buildEvents(p pastEvents) []*wire.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values.Refresh()
	for i := range p.records {
		p.events = append(p.events, s.expand(&p.records[i], s.values))
	}
	slices.SortFunc(p.events, func(a, b *wire.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return p.events
}

// Recent returns what is remembered of the stream: events of the types named (all,
// when there are none) that happened at the CLOCK_BOOTTIME instant since or later.
// From any goroutine.
func (r *Reader) Recent(ctx context.Context, types []string, since uint64) ([]*wire.Event, error) {
	s := r.stream
	var past pastEvents
	if err := s.loop.Do(ctx, func(*tracker.Tree) { past = s.past(newTypeSet(types), since) }); err != nil {
		return nil, err
	}
	return s.buildEvents(past), nil
}

// Follow returns what Recent does, and everything after that as lines: nothing is in
// both or in neither. news is called on the loop when there are lines to take; it must
// not block. From any goroutine.
func (r *Reader) Follow(ctx context.Context, types []string, since uint64, news func()) ([]*wire.Event, *Lines, error) {
	s := r.stream
	l := &Lines{hub: &s.hub, types: newTypeSet(types), news: news, done: make(chan struct{})}
	var past pastEvents
	if err := s.loop.Do(ctx, func(*tracker.Tree) {
		past = s.past(l.types, since)
		s.hub.follow(l)
	}); err != nil {
		l.Close()
		return nil, nil, err
	}
	return s.buildEvents(past), l, nil
}

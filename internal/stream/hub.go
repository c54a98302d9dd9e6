// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// subscriberQueue is how many events wait for a slow reader before it misses some.
const subscriberQueue = 4096

// A Subscription is one reader's view of the stream. Close it when done.
type Subscription struct {
	hub    *hub
	types  typeSet
	events chan *wire.Event
	missed atomic.Uint64
	since  atomic.Uint64 // CLOCK_BOOTTIME ns of the first one missed
}

// Events delivers the events in order; they are shared and must not be changed. It is
// closed when the stream ends.
func (s *Subscription) Events() <-chan *wire.Event { return s.events }

// Missed returns how many events the reader was too slow for since the last call, and
// when the first of them happened (CLOCK_BOOTTIME ns).
func (s *Subscription) Missed() (count, since uint64) {
	count = s.missed.Swap(0)
	return count, s.since.Swap(0)
}

// Close ends the subscription.
func (s *Subscription) Close() { s.hub.remove(s) }

// A typeSet is a set of event types.
type typeSet uint32

func typeBit(t string) typeSet {
	if i := slices.Index(wire.Types, t); i >= 0 {
		return 1 << i
	}
	return 0
}

// newTypeSet returns the set of the types named; all when there are none.
func newTypeSet(types []string) typeSet {
	if len(types) == 0 {
		return ^typeSet(0)
	}
	var s typeSet
	for _, t := range types {
		s |= typeBit(t)
	}
	return s
}

func (s typeSet) has(t string) bool { return s&typeBit(t) != 0 }

// hub hands events to subscribers. A slow one never holds up the others, nor the
// publisher: it misses events, and is told how many.
type hub struct {
	wanted atomic.Uint32 // union of the subscribers' types
	shared atomic.Uint32 // the part of it whose events themselves are kept by someone

	mu      sync.Mutex
	subs    []*Subscription
	lines   []*Lines
	backlog backlog
	text    []byte // a block in which lines are written one after another
	closed  bool

	// Of the publisher alone:
	unnotified []*Lines // have lines that their readers were not told of
	// What came since readers were told last, and when that was.
	unflushed int
	flushed   time.Time
}

// Subscribe returns the events of the types named from now on; of all types when
// there are none. From any goroutine.
func (r *Reader) Subscribe(types ...string) *Subscription { return r.stream.hub.subscribe(types) }

func (h *hub) subscribe(types []string) *Subscription {
	s := &Subscription{hub: h, types: newTypeSet(types), events: make(chan *wire.Event, subscriberQueue)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(s.events)
		return s
	}
	h.subs = append(h.subs, s)
	h.update()
	return s
}

func (h *hub) update() {
	var all typeSet
	for _, s := range h.subs {
		all |= s.types
	}
	h.shared.Store(uint32(all))
	for _, l := range h.lines {
		all |= l.types
	}
	h.wanted.Store(uint32(all))
}

func (h *hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.subs, s); i >= 0 {
		h.subs = slices.Delete(h.subs, i, i+1)
		close(s.events)
		h.update()
	}
}

// wants reports whether any subscriber asks for the type.
func (h *hub) wants(kind typeSet) bool { return typeSet(h.wanted.Load())&kind != 0 }

// shares reports whether any subscriber keeps events of the type; those who read lines
// do not.
func (h *hub) shares(kind typeSet) bool { return typeSet(h.shared.Load())&kind != 0 }

// publish hands an event to all who want its type. Those who read lines are told by
// flush.
func (h *hub) publish(e *wire.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kind := typeBit(e.Type)
	for _, s := range h.subs {
		if s.types&kind == 0 {
			continue
		}
		select {
		case s.events <- e:
		default:
			if s.missed.Add(1) == 1 {
				s.since.Store(e.TimeNS)
			}
		}
	}
	h.publishLine(e, kind)
}

// close ends every subscription.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, s := range h.subs {
		close(s.events)
	}
	for _, l := range h.lines {
		close(l.done)
	}
	h.subs, h.lines = nil, nil
	h.wanted.Store(0)
}

// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"slices"
	"sync"

	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// lineBlock is how much memory lines are written into at once. It is given back when no
// reader holds a line of it.
const lineBlock = 64 << 10

// linesQueue is how many lines wait for a slow reader before it misses some. They are
// shared, so that it is some MiB for all readers that stopped at the same time.
const linesQueue = 16384

// Lines is one reader's view of the stream as lines of JSON, which are written once for
// all readers. Close it when done.
type Lines struct {
	hub   *hub
	types typeSet
	news  func()
	done  chan struct{}
	fresh bool // the publisher's: among hub.fresh

	mu     sync.Mutex
	queue  [][]byte
	missed uint64
	since  uint64
}

// Take returns what was published since the last call, and how many events were missed
// after it for want of room, with the instant of the first (CLOCK_BOOTTIME ns). The lines
// are shared: they must not be changed. From any goroutine.
func (l *Lines) Take() (lines [][]byte, missed, since uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, missed, since = l.queue, l.missed, l.since
	l.queue, l.missed, l.since = nil, 0, 0
	return lines, missed, since
}

// Done is closed when the stream has ended.
func (l *Lines) Done() <-chan struct{} { return l.done }

// Close ends the view. The function given to Follow may be running still.
func (l *Lines) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if i := slices.Index(l.hub.lines, l); i >= 0 {
		l.hub.lines = slices.Delete(l.hub.lines, i, i+1)
		l.hub.update()
	}
}

func (l *Lines) add(line []byte, at uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.missed > 0 || len(l.queue) == linesQueue {
		if l.missed++; l.missed == 1 {
			l.since = at
		}
		return
	}
	l.queue = append(l.queue, line)
}

// publishLine writes the line once, where anyone wants it. With h.mu.
func (h *hub) publishLine(e *wire.Event) {
	var line []byte
	for _, l := range h.lines {
		if !l.types.has(e.Type) {
			continue
		}
		if line == nil {
			line = h.write(e)
		}
		l.add(line, e.TimeNS)
		if !l.fresh {
			l.fresh = true
			h.fresh = append(h.fresh, l)
		}
	}
}

func (h *hub) write(e *wire.Event) []byte {
	if cap(h.text)-len(h.text) < lineBlock/16 {
		h.text = make([]byte, 0, lineBlock)
	}
	begin := len(h.text)
	h.text = wire.AppendEvent(h.text, e)
	return h.text[begin:len(h.text):len(h.text)]
}

// flush tells the readers of lines that there are some. By the publisher.
func (h *hub) flush() {
	for i, l := range h.fresh {
		h.fresh[i], l.fresh = nil, false
		l.news()
	}
	h.fresh = h.fresh[:0]
}

// Follow returns what Recent does, and everything after that as lines: nothing is in
// both or in neither. news is called on the loop when there are lines to take; it must
// not block. From any goroutine.
func (t *Tracer) Follow(ctx context.Context, types []string, since uint64, news func()) ([]*wire.Event, *Lines, error) {
	l := &Lines{hub: &t.hub, types: newTypeSet(types), news: news, done: make(chan struct{})}
	var past past
	if err := t.Do(ctx, func(*tracker.Tree) {
		past = t.past(l.types, since)
		t.hub.follow(l)
	}); err != nil {
		l.Close()
		return nil, nil, err
	}
	return t.tell(past), l, nil
}

func (h *hub) follow(l *Lines) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(l.done)
		return
	}
	h.lines = append(h.lines, l)
	h.update()
}

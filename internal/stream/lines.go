// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// lineBlock is how much memory lines are written into at once. It serves again when no
// line waits for a reader, and is given back when there is no reader.
const lineBlock = 2 * paceBytes

// How many lines wait, and how many bytes of them, before those who have not read the
// oldest miss it: one and a half seconds of a storm at the rate that the kernel reaches
// (85,000 a second, of half a kilobyte each). Who reads half as fast as that catches up
// with a burst of three. They are the same lines for all readers, so that these bounds
// hold however many readers stall, and whenever they began to.
const (
	backlogLines = 128 << 10
	backlogBytes = 64 << 20
)

// Lines that can wait are told to their readers when there are so many bytes of them, or
// when so much time has passed since others were.
const (
	paceBytes = 128 << 10
	paceTime  = 5 * time.Millisecond
)

// Lines is one reader's view of the stream as lines of JSON, which are written once for
// all readers. Close it when done.
type Lines struct {
	hub        *hub
	types      typeSet
	news       func()
	done       chan struct{}
	unnotified bool // the publisher's: among hub.fresh

	// With hub.mu:
	closed bool   // by its reader, perhaps before the loop came to follow
	next   uint64 // number of the line to look at next
	missed uint64 // of the lines before
	since  uint64
}

// A backlog is the newest lines of the stream, numbered from 0 on, of which some reader
// has not taken all.
type backlog struct {
	lines []line
	first uint64 // number of lines[0]
	bytes int
}

type line struct {
	text []byte
	kind typeSet // one type
	at   uint64  // CLOCK_BOOTTIME ns
}

func (b *backlog) end() uint64 { return b.first + uint64(len(b.lines)) }

func (b *backlog) full() bool { return len(b.lines) > backlogLines || b.bytes > backlogBytes }

// drop forgets the oldest line, in no time however many there are.
func (b *backlog) drop() {
	b.bytes -= len(b.lines[0].text)
	b.lines[0] = line{}
	b.lines = b.lines[1:]
	b.first++
}

// forget forgets the n oldest lines, and leaves the room for others.
func (b *backlog) forget(n int) {
	for i := range n {
		b.bytes -= len(b.lines[i].text)
	}
	b.lines = slices.Delete(b.lines, 0, n)
	b.first += uint64(n)
}

// Take returns how many events were missed for want of room since the last call, with
// the instant of the first (CLOCK_BOOTTIME ns), and appends to text what was published
// after them: no more lines than make up limit bytes, if only the last one goes beyond.
// From any goroutine.
func (l *Lines) Take(text []byte, limit int) (missed, since uint64, _ []byte) {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	missed, since, l.missed, l.since = l.missed, l.since, 0, 0
	l.next = max(l.next, h.backlog.first) // it may be closed
	for limit += len(text); l.next < h.backlog.end() && len(text) < limit; l.next++ {
		if one := &h.backlog.lines[l.next-h.backlog.first]; l.types&one.kind != 0 {
			text = append(text, one.text...)
		}
	}
	return missed, since, text
}

// Done is closed when the stream has ended.
func (l *Lines) Done() <-chan struct{} { return l.done }

// Close ends the view. The function given to Follow may be running still.
func (l *Lines) Close() {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	l.closed = true
	if i := slices.Index(h.lines, l); i >= 0 {
		h.lines = slices.Delete(h.lines, i, i+1)
		h.update()
		h.trim()
	}
	if len(h.lines) == 0 {
		h.text = nil
	}
}

// publishLine writes the line once, where anyone wants it. With h.mu.
func (h *hub) publishLine(e *wire.Event, kind typeSet) {
	written := false
	for _, l := range h.lines {
		if l.types&kind == 0 {
			continue
		}
		if !written {
			h.write(e, kind)
			written = true
		}
		if !l.unnotified {
			l.unnotified = true
			h.unnotified = append(h.unnotified, l)
		}
	}
	for h.backlog.full() {
		h.miss(&h.backlog.lines[0])
		h.backlog.drop()
	}
}

// write adds the line to the backlog. With h.mu.
func (h *hub) write(e *wire.Event, kind typeSet) {
	if cap(h.text)-len(h.text) < lineBlock/16 {
		h.text = make([]byte, 0, lineBlock)
	}
	begin := len(h.text)
	h.text = wire.AppendEvent(h.text, e)
	size := len(h.text) - begin
	h.backlog.bytes += size
	h.unflushed += size
	h.backlog.lines = append(h.backlog.lines, line{h.text[begin:len(h.text):len(h.text)], kind, e.TimeNS})
}

// miss has those who have not taken the oldest line miss it. With h.mu.
func (h *hub) miss(oldest *line) {
	for _, l := range h.lines {
		if l.next > h.backlog.first {
			continue
		}
		l.next++
		if l.types&oldest.kind != 0 {
			if l.missed++; l.missed == 1 {
				l.since = oldest.at
			}
		}
	}
}

// trim forgets the lines that every reader has taken. With h.mu.
func (h *hub) trim() {
	least := h.backlog.end()
	for _, l := range h.lines {
		least = min(least, l.next)
	}
	h.backlog.forget(int(least - h.backlog.first))
	if len(h.backlog.lines) == 0 {
		h.text = h.text[:0]
	}
}

// flushPaced flushes what can wait: at once after a while without lines, and when no more come,
// but of a storm some at a time. To wake a reader takes as long as to write a dozen lines.
// After looks that found something, others follow soon. By the publisher.
func (h *hub) flushPaced(found int) {
	if found == 0 || h.unflushed >= paceBytes || len(h.unnotified) > 0 && time.Since(h.flushed) >= paceTime {
		h.flush()
	}
}

// flush tells the readers of lines that there are some. By the publisher.
func (h *hub) flush() {
	if len(h.unnotified) == 0 {
		return
	}
	h.unflushed, h.flushed = 0, time.Now()
	for i, l := range h.unnotified {
		h.unnotified[i], l.unnotified = nil, false
		l.news()
	}
	h.unnotified = h.unnotified[:0]
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trim()
}

func (h *hub) follow(l *Lines) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(l.done)
		return
	}
	if l.closed {
		return
	}
	l.next = h.backlog.end()
	h.lines = append(h.lines, l)
	h.update()
}

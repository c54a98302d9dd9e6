// SPDX-License-Identifier: Apache-2.0

// Package linequeue writes lines to a place that may stop taking them, as the standard
// error of a container that nobody reads does, without its callers ever waiting.
package linequeue

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// MaxBytes is how much waits. What does not fit is left out, and counted in a line of its
// own as soon as there is room.
const MaxBytes = 1 << 20

// A Writer takes lines for another writer and writes them from a goroutine of its own.
// Its methods may be called from any goroutine. Close it.
type Writer struct {
	out  io.Writer
	more chan struct{} // the goroutine is to look
	done chan struct{}

	mu      sync.Mutex
	waiting []byte
	leftOut uint64
	closed  bool
}

// New returns a Writer to out, which it does not close.
func New(out io.Writer) *Writer {
	w := &Writer{out: out, more: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write implements [io.Writer]. line is one line or several; it is whole or left out. It
// never fails and never waits.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.waiting)+len(line) > MaxBytes {
		w.leftOut++
		return len(line), nil
	}
	w.waiting = append(w.waiting, line...)
	w.wake()
	return len(line), nil
}

// Close writes what waits, for no longer than timeout. Later lines are left out.
func (w *Writer) Close(timeout time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.wake()
	w.mu.Unlock()
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-w.done:
	case <-late.C: // out may never return
	}
}

func (w *Writer) wake() {
	select {
	case w.more <- struct{}{}:
	default: // it will look anyway
	}
}

func (w *Writer) run() {
	defer close(w.done)
	for range w.more {
		for {
			text, closed := w.take()
			if len(text) == 0 {
				if closed {
					return
				}
				break
			}
			_, _ = w.out.Write(text) // there is nobody else to tell
		}
	}
}

// take returns what waits, and what was left out before it could.
func (w *Writer) take() (text []byte, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, w.waiting = w.waiting, nil
	if w.leftOut > 0 && !w.closed {
		text = fmt.Appendf(text, "time=%s level=WARN msg=\"lines were left out: they were not read in time\" lines=%d\n",
			time.Now().Format("2006-01-02T15:04:05.000Z07:00"), w.leftOut)
		w.leftOut = 0
	}
	return text, w.closed
}

// SPDX-License-Identifier: Apache-2.0

// Package inbox has a loop run what other goroutines ask of it, and ends the loop's sleep for
// that. The loop is one goroutine that owns something, and nobody takes a lock for it.
package inbox

import (
	"context"
	"errors"
	"sync"
)

// ErrStopped is returned by what needs a running loop.
var ErrStopped = errors.New("the tracer has stopped")

// waiting is how many functions wait before whoever posts one more does.
const waiting = 64

// An Inbox holds the functions that a loop is to run. Its methods may be called from any
// goroutine but the loop's, unless they say otherwise.
type Inbox struct {
	wake  func()
	calls chan func()
	done  chan struct{}

	mu      sync.RWMutex // wake is called under it, so that nobody is woken once Close has returned
	stopped bool
}

// New returns the inbox of a loop whose sleep wake ends.
func New(wake func()) *Inbox {
	return &Inbox{wake: wake, calls: make(chan func(), waiting), done: make(chan struct{})}
}

// Close ends the inbox: whoever waits is let go, and what was not run is not. On the loop.
func (b *Inbox) Close() {
	close(b.done)
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
}

// Run runs what was posted. On the loop.
func (b *Inbox) Run() {
	for {
		select {
		case fn := <-b.calls:
			fn()
		default:
			return
		}
	}
}

// Wake ends the loop's sleep.
func (b *Inbox) Wake() {
	b.WhileOpen(func() bool { b.wake(); return true })
}

// WhileOpen reports what fn does; false where the inbox is closed, and it is not closed
// while fn runs.
func (b *Inbox) WhileOpen(fn func() bool) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return !b.stopped && fn()
}

// Post has the loop run fn, some time. It blocks while many wait.
func (b *Inbox) Post(fn func()) {
	select {
	case b.calls <- fn:
		b.Wake()
	case <-b.done:
	}
}

// Do has the loop run fn and waits for it. Where ctx is over before fn's turn comes, fn is
// not run. It returns ErrStopped where the loop ends before.
func (b *Inbox) Do(ctx context.Context, fn func()) error {
	finished := make(chan struct{})
	var skipped error
	run := func() {
		defer close(finished)
		if skipped = ctx.Err(); skipped == nil { // else nobody waits for it any more
			fn()
		}
	}
	select {
	case b.calls <- run:
		b.Wake()
	case <-b.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-finished:
		return skipped
	case <-b.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

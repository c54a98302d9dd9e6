// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"sync"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Why a Queue does not take a request.
var (
	ErrBusy   = errors.New("the tree is being ended already")
	ErrFull   = errors.New("too many kills are waiting")
	ErrClosed = errors.New("no more kills are taken")
)

// A Queue carries out kills in the background: some at a time, and never two upon
// one tree. It is safe for concurrent use.
type Queue struct {
	do     func(context.Context, Request) wire.Kill
	report func(Request, wire.Kill)
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	requests chan Request // closed when cancel has been called
	closed   bool
	busy     map[event.ID]bool // roots, waiting ones included
}

// NewQueue returns a Queue that carries out requests by do (an Enforcer's Do), at
// most workers at a time with at most waiting behind them, and hands each result
// to report, from any of its goroutines. A tree is free for the next request when
// report returns. The Queue must be closed.
func NewQueue(workers, waiting int, do func(context.Context, Request) wire.Kill, report func(Request, wire.Kill)) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	q := &Queue{do: do, report: report, cancel: cancel,
		requests: make(chan Request, waiting), busy: make(map[event.ID]bool)}
	for range workers {
		q.done.Go(func() {
			for req := range q.requests {
				q.report(req, q.do(ctx, req))
				q.release(req.Root)
			}
		})
	}
	return q
}

func (q *Queue) release(root event.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, root)
}

// Submit takes a request, or says why not: ErrBusy, ErrFull or ErrClosed. It never
// blocks. What it has taken is reported, come what may.
func (q *Queue) Submit(req Request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.busy[req.Root]:
		return ErrBusy
	}
	select {
	case q.requests <- req:
		q.busy[req.Root] = true
		return nil
	default:
		return ErrFull
	}
}

// Close ends the context of the kills that run and of those that wait, and returns
// when all have been reported.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		q.cancel()
		close(q.requests)
	}
	q.mu.Unlock()
	q.done.Wait()
}

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
	do      func(context.Context, Request) wire.Kill
	report  func(Request, wire.Kill)
	ctx     context.Context
	cancel  context.CancelFunc
	atOnce  int
	waiting int
	done    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	running int
	next    []Request         // waiting, the oldest first
	busy    map[event.ID]bool // roots, waiting ones included
}

// NewQueue returns a Queue that carries out requests by do (an Enforcer's Do), at
// most so many at once with at most waiting behind them, and hands each result
// to report, from any of its goroutines. A tree is free for the next request when
// report returns. The Queue must be closed.
func NewQueue(atOnce, waiting int, do func(context.Context, Request) wire.Kill, report func(Request, wire.Kill)) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	return &Queue{do: do, report: report, ctx: ctx, cancel: cancel, atOnce: atOnce, waiting: waiting,
		busy: make(map[event.ID]bool)}
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
	case q.running < q.atOnce:
		q.running++
		q.done.Go(func() { q.work(req) })
	case len(q.next) < q.waiting:
		q.next = append(q.next, req)
	default:
		return ErrFull
	}
	q.busy[req.Root] = true
	return nil
}

// Reserve takes a place for a request for the root, and reports whether there was one: not
// where it would have to wait, nor while that tree is being ended. Start is to follow.
func (q *Queue) Reserve(root event.ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.running == q.atOnce || q.busy[root] {
		return false
	}
	q.running++
	q.busy[root] = true
	return true
}

// Start carries out a request for which Reserve has taken a place. When the Queue was closed
// meanwhile the request is called off and reported, too, but Close has not waited for it.
func (q *Queue) Start(req Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		go q.work(req)
		return
	}
	q.done.Go(func() { q.work(req) })
}

// work carries out a request. Its place is free for the next as soon as nobody of its
// tree lives, also if it then waits for somebody to reap them.
func (q *Queue) work(req Request) {
	leave := sync.OnceFunc(q.leave)
	req.Dead = leave
	q.report(req, q.do(q.ctx, req))
	leave()
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, req.Root)
}

// leave gives a place to the oldest of those who wait.
func (q *Queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.next) == 0 {
		q.running--
		return
	}
	req := q.next[0]
	q.next = q.next[1:]
	q.done.Go(func() { q.work(req) })
}

// Close ends the context of the kills that run and of those that wait, and returns
// when all have been reported.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.cancel()
	q.done.Wait()
}

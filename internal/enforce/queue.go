// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"slices"
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

// Bounds of a Queue. Root is bound by those of all alone; what is left to it by the others
// is a quarter of each.
type Bounds struct {
	// AtOnce is how many kills act at once. One that waits for what its first signals do is
	// none of them.
	AtOnce int
	// Waiting is how many requests may wait until they can begin, and a user's at most half
	// of what is not root's.
	Waiting int
	// Kills is how many of a user's may have begun and not ended.
	Kills int
	// Descriptors is how many all kills may hold that have begun and not ended, a user's at
	// most half of what is not root's. Somebody's only kill may hold more.
	Descriptors int
}

// others is what is not left to root.
func others(all int) int { return all - all/4 }

// A share is what one user's kills take.
type share struct {
	kills, descriptors, waiting int
}

// A Queue carries out kills in the background: some at a time, and never two upon
// one tree. Nobody's wait takes a place from others. It is safe for concurrent use.
type Queue struct {
	do     func(context.Context, Request) wire.Kill
	report func(Request, wire.Kill)
	ctx    context.Context
	cancel context.CancelFunc
	bounds Bounds
	done   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	acting int
	next   []Request         // waiting, the oldest first
	busy   map[event.ID]bool // roots, waiting ones included
	shares map[uint32]*share
	users  share // of all but root
	all    share
}

// NewQueue returns a Queue that carries out requests by do (an Enforcer's Do), within the
// bounds, and hands each result to report, from any of its goroutines. A tree is free for the
// next request when report returns. The Queue must be closed.
func NewQueue(bounds Bounds, do func(context.Context, Request) wire.Kill, report func(Request, wire.Kill)) *Queue {
	ctx, cancel := context.WithCancel(context.Background())
	return &Queue{do: do, report: report, ctx: ctx, cancel: cancel, bounds: bounds,
		busy: make(map[event.ID]bool), shares: make(map[uint32]*share)}
}

// Submit takes a request, or says why not: ErrBusy, ErrFull or ErrClosed. It never
// blocks. What it has taken is reported, come what may. Who has to wait lets go of what the
// request holds.
func (q *Queue) Submit(req Request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.isBusy(&req):
		return ErrBusy
	case q.mayBegin(&req):
		q.take(&req)
		q.done.Go(func() { q.work(req) })
	case q.mayWait(req.UID):
		req.Release()
		q.count(req.UID, share{waiting: 1})
		q.next = append(q.next, req)
	default:
		return ErrFull
	}
	q.occupy(&req)
	return nil
}

// Room reports whether a request of the user for so many targets would be taken.
func (q *Queue) Room(uid uint32, targets int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.closed && (q.mayWait(uid) || q.mayBeginWith(uid, targets))
}

// Reserve takes a place for a request, and reports whether there was one: not where it would
// have to wait, nor while that tree is being ended. Start is to follow.
func (q *Queue) Reserve(req *Request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.isBusy(req) || !q.mayBegin(req) {
		return false
	}
	q.take(req)
	q.occupy(req)
	return true
}

// roots are the roots of the trees that the request ends: none where it only observes, and is
// in nobody's way.
func (r *Request) roots() []event.ID {
	switch {
	case !r.ends():
		return nil
	case len(r.Roots) == 0:
		return []event.ID{r.Root}
	}
	return r.Roots
}

// isBusy reports whether one of the request's trees is being ended, or is to be.
func (q *Queue) isBusy(req *Request) bool {
	return slices.ContainsFunc(req.roots(), func(root event.ID) bool { return q.busy[root] })
}

// occupy keeps trees from other requests that end them.
func (q *Queue) occupy(req *Request) {
	for _, root := range req.roots() {
		q.busy[root] = true
	}
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

// descriptors is how many a kill of so many processes holds.
func descriptors(targets int) int { return targets + 1 }

func (q *Queue) mayBegin(req *Request) bool { return q.mayBeginWith(req.UID, len(req.Targets)) }

func (q *Queue) mayBeginWith(uid uint32, targets int) bool {
	if q.acting >= q.bounds.AtOnce {
		return false
	}
	n := descriptors(targets)
	if q.all.kills > 0 && q.all.descriptors+n > q.bounds.Descriptors {
		return false
	}
	if uid == 0 {
		return true
	}
	own, most := q.share(uid), others(q.bounds.Descriptors)
	if own.kills > 0 && own.descriptors+n > most/2 || q.users.kills > 0 && q.users.descriptors+n > most {
		return false
	}
	return own.kills < q.bounds.Kills
}

func (q *Queue) mayWait(uid uint32) bool {
	if len(q.next) >= q.bounds.Waiting {
		return false
	}
	most := others(q.bounds.Waiting)
	return uid == 0 || q.users.waiting < most && q.share(uid).waiting < (most+1)/2
}

func (q *Queue) share(uid uint32) share {
	if s := q.shares[uid]; s != nil {
		return *s
	}
	return share{}
}

// take counts a request that begins.
func (q *Queue) take(req *Request) {
	q.acting++
	q.count(req.UID, share{kills: 1, descriptors: descriptors(len(req.Targets))})
}

// count adds to what the user takes.
func (q *Queue) count(uid uint32, more share) {
	own := q.shares[uid]
	if own == nil {
		own = &share{}
		q.shares[uid] = own
	}
	sums := []*share{own, &q.all}
	if uid != 0 {
		sums = append(sums, &q.users)
	}
	for _, s := range sums {
		s.kills += more.kills
		s.descriptors += more.descriptors
		s.waiting += more.waiting
	}
	if *own == (share{}) {
		delete(q.shares, uid)
	}
}

// work carries out a request. Its place is free for the next as soon as it waits.
func (q *Queue) work(req Request) {
	leave := sync.OnceFunc(q.leave)
	req.Waits = leave
	q.report(req, q.do(q.ctx, req))
	leave()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, root := range req.roots() {
		delete(q.busy, root)
	}
	q.count(req.UID, share{kills: -1, descriptors: -descriptors(len(req.Targets))})
	q.beginNext()
}

// leave gives up a place.
func (q *Queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.acting--
	q.beginNext()
}

// beginNext has those begin who wait and may, the oldest first. When the queue is closed all
// may: they are called off.
func (q *Queue) beginNext() {
	left := q.next[:0]
	for _, req := range q.next {
		if !q.closed && !q.mayBegin(&req) {
			left = append(left, req)
			continue
		}
		q.count(req.UID, share{waiting: -1})
		q.take(&req)
		q.done.Go(func() { q.work(req) })
	}
	clear(q.next[len(left):])
	q.next = left
}

// Close ends the context of the kills that run and of those that wait, and returns
// when all have been reported.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.cancel()
	q.beginNext()
	q.mu.Unlock()
	q.done.Wait()
}

// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// bounds lets so many act and so many wait, whoever they belong to.
func bounds(atOnce, waiting int) Bounds {
	return Bounds{AtOnce: atOnce, Waiting: waiting, Kills: 1000, Descriptors: 1000}
}

func treeOf(pid int32) Request { return Request{Root: event.ID{PID: pid, Start: 1}} }

func TestQueue(t *testing.T) {
	began, goOn := make(chan int32), make(chan struct{})
	reported := make(chan int32, 10)
	var running, most atomic.Int32
	q := NewQueue(bounds(2, 1), func(_ context.Context, req Request) wire.Kill {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		began <- req.Root.PID
		<-goOn
		running.Add(-1)
		return wire.Kill{}
	}, func(req Request, _ wire.Kill) { reported <- req.Root.PID })
	defer q.Close()
	submit := func(pid int32, want error) {
		t.Helper()
		if err := q.Submit(treeOf(pid)); !errors.Is(err, want) {
			t.Errorf("tree %d: got %v, want %v", pid, err, want)
		}
	}
	submit(1, nil)
	<-began
	submit(1, ErrBusy)
	submit(2, nil)
	<-began
	submit(3, nil) // waits
	submit(3, ErrBusy)
	submit(4, ErrFull)
	for range 2 {
		goOn <- struct{}{}
		<-reported
	}
	<-began
	goOn <- struct{}{}
	if pid := <-reported; pid != 3 {
		t.Errorf("got tree %d reported, want 3", pid)
	}
	q.Close()
	if n := most.Load(); n != 2 {
		t.Errorf("got %d at a time, want 2", n)
	}
	submit(1, ErrClosed)
}

// TestQueueFrees: a tree can be submitted again after its report, and only then.
func TestQueueFrees(t *testing.T) {
	again := make(chan error, 1)
	var q *Queue
	ready := make(chan struct{})
	q = NewQueue(bounds(1, 1), func(context.Context, Request) wire.Kill { return wire.Kill{} },
		func(req Request, _ wire.Kill) {
			<-ready
			again <- q.Submit(req)
		})
	if err := q.Submit(treeOf(1)); err != nil {
		t.Fatal(err)
	}
	close(ready)
	if err := <-again; !errors.Is(err, ErrBusy) {
		t.Errorf("from its report: got %v, want %v", err, ErrBusy)
	}
	q.Close()
	if len(q.busy) != 0 {
		t.Errorf("still busy: %v", q.busy)
	}
}

// TestQueueObserves: who only looks at a tree is kept from it by nobody, and keeps nobody.
func TestQueueObserves(t *testing.T) {
	release := make(chan struct{})
	q := NewQueue(bounds(4, 4), func(context.Context, Request) wire.Kill { <-release; return wire.Kill{} }, func(Request, wire.Kill) {})
	for _, mode := range []string{wire.ModeObserve, wire.ModeObserve, wire.ModeEnforce, wire.ModeObserve} {
		req := treeOf(1)
		req.Mode = mode
		if err := q.Submit(req); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if err := q.Submit(treeOf(1)); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one that ends it: got %v, want %v", err, ErrBusy)
	}
	close(release)
	q.Close()
	if len(q.busy) != 0 {
		t.Errorf("still busy: %v", q.busy)
	}
}

// TestQueueUnreaped: a kill that only waits for its dead to be reaped holds up no other.
func TestQueueUnreaped(t *testing.T) {
	reaped, began := make(chan struct{}), make(chan int32)
	q := NewQueue(bounds(1, 3), func(_ context.Context, req Request) wire.Kill {
		began <- req.Root.PID
		req.Waits()
		<-reaped
		return wire.Kill{}
	}, func(Request, wire.Kill) {})
	for pid := range int32(3) {
		if err := q.Submit(treeOf(pid)); err != nil {
			t.Fatal(err)
		}
	}
	for want := range int32(3) {
		if got := <-began; got != want {
			t.Errorf("got tree %d, want %d", got, want)
		}
	}
	if err := q.Submit(treeOf(2)); !errors.Is(err, ErrBusy) {
		t.Errorf("a tree that is not reaped: got %v, want %v", err, ErrBusy)
	}
	close(reaped)
	q.Close()
	if q.acting != 0 || len(q.busy) != 0 {
		t.Errorf("%d run, %v are busy", q.acting, q.busy)
	}
}

// TestQueueClose: what runs is told to let go, what waits is told the same, and all
// of it is reported.
func TestQueueClose(t *testing.T) {
	began := make(chan struct{}, 3)
	var reports atomic.Int32
	q := NewQueue(bounds(1, 2), func(ctx context.Context, _ Request) wire.Kill {
		began <- struct{}{}
		<-ctx.Done()
		return wire.Kill{}
	}, func(Request, wire.Kill) { reports.Add(1) })
	for pid := range int32(3) {
		if pid == 1 {
			<-began
		}
		if err := q.Submit(treeOf(pid)); err != nil {
			t.Fatal(err)
		}
	}
	q.Close()
	q.Close()
	if n := reports.Load(); n != 3 {
		t.Errorf("got %d reports, want 3", n)
	}
}

// TestReserved wants a place that was taken to count as one, to be there when the request
// comes, and the request reported also by a queue that was closed meanwhile.
func TestReserved(t *testing.T) {
	block := make(chan struct{})
	reported := make(chan event.ID, 4)
	q := NewQueue(bounds(2, 0), func(ctx context.Context, req Request) wire.Kill {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return wire.Kill{}
	}, func(req Request, _ wire.Kill) { reported <- req.Root })
	root := func(n int32) Request { return Request{Root: event.ID{PID: n, Start: 1}} }
	for n := range int32(2) {
		if !q.Reserve(ref(root(n))) {
			t.Fatalf("no place for %d", n)
		}
	}
	if q.Reserve(ref(root(0))) || q.Reserve(ref(root(3))) {
		t.Error("a place for one that is being ended, or for more than there are")
	}
	if err := q.Submit(root(0)); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	if err := q.Submit(root(3)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want %v", err, ErrFull)
	}
	q.Start(root(0))
	close(block)
	if id := <-reported; id != root(0).Root {
		t.Errorf("%v is reported", id)
	}
	q.Close()
	q.Start(root(1))
	if id := <-reported; id != root(1).Root {
		t.Errorf("%v is reported", id)
	}
	if q.Reserve(ref(root(4))) {
		t.Error("a place in a closed queue")
	}
}

func ref(req Request) *Request { return &req }

// TestQueueOfMany wants nobody's wait to hold up others: whose kills take their whole grace
// may have as many as are his, and everybody else's begin at once.
func TestQueueOfMany(t *testing.T) {
	const deaf, other = 1000, 1001
	began, goOn := make(chan uint32, 64), make(chan struct{})
	q := NewQueue(Bounds{AtOnce: 2, Waiting: 16, Kills: 3, Descriptors: 80}, func(_ context.Context, req Request) wire.Kill {
		began <- req.UID
		req.Waits()
		<-goOn
		return wire.Kill{}
	}, func(Request, wire.Kill) {})
	request := func(pid int32, uid uint32, targets int) Request {
		return Request{Root: event.ID{PID: pid, Start: 1}, UID: uid, Targets: make([]Target, targets)}
	}
	full := 0
	for pid := range int32(20) {
		if err := q.Submit(request(pid, deaf, 1)); errors.Is(err, ErrFull) {
			full++
		} else if err != nil {
			t.Fatal(err)
		} else if pid < 3 {
			<-began
		}
	}
	if full != 20-3-6 { // half of what is not root's of 16 wait
		t.Errorf("%d of one user are refused", full)
	}
	for i, want := range []struct {
		uid     uint32
		targets int
	}{{other, 20}, {0, 5}, {0, 5}, {0, 5}, {0, 5}} {
		if err := q.Submit(request(int32(100+i), want.uid, want.targets)); err != nil {
			t.Fatal(err)
		}
		if uid := <-began; uid != want.uid {
			t.Errorf("%d began, want %d", uid, want.uid)
		}
	}
	// Its descriptors are used up, and root's are not.
	if err := q.Submit(request(200, other, 20)); err != nil {
		t.Fatal(err)
	}
	if q.Room(deaf, 1) || !q.Room(other, 1) || !q.Room(0, 1) {
		t.Error("room for who has used his share up, or none for others")
	}
	select {
	case uid := <-began:
		t.Errorf("%d began beyond its share", uid)
	default:
	}
	close(goOn)
	for range 7 {
		<-began
	}
	q.Close()
	if q.acting != 0 || len(q.busy) != 0 || len(q.shares) != 0 || q.all != (share{}) || q.users != (share{}) {
		t.Errorf("%d act, %v are busy, %v %+v are counted", q.acting, q.busy, q.shares, q.all)
	}
}

// TestDeafTreesHoldNobodyUp wants a kill to be done at once while many others wait out their
// grace, and those to take no threads.
func TestDeafTreesHoldNobodyUp(t *testing.T) {
	inNamespace(t, func(w *world) {
		const deaf = 70
		for range deaf {
			w.start("ignore")
		}
		before := threads(t) // with those that wait for the test's own children
		e := w.enforcer()
		var waiting sync.WaitGroup
		waiting.Add(deaf)
		reported := make(chan Request, deaf+1)
		q := NewQueue(bounds(4, deaf), func(ctx context.Context, req Request) wire.Kill {
			leave := req.Waits
			req.Waits = func() { leave(); waiting.Done() }
			return e.Do(ctx, req)
		}, func(req Request, _ wire.Kill) { reported <- req })
		for _, target := range w.targets() {
			req := w.request(time.Hour)
			req.Root, req.Targets, req.Scope = target.ID, []Target{target}, wire.ScopeProcess
			if err := q.Submit(req); err != nil {
				t.Fatal(err)
			}
		}
		waiting.Wait()
		waiting.Add(1)
		pid := w.start("obey")
		for _, target := range w.targets() {
			if target.ID.PID == pid {
				req := w.request(time.Hour)
				req.Root, req.Targets, req.Scope = target.ID, []Target{target}, wire.ScopeProcess
				if err := q.Submit(req); err != nil {
					t.Fatal(err)
				}
			}
		}
		if req := <-reported; req.Root.PID != pid {
			t.Errorf("%d is reported first", req.Root.PID)
		}
		if now := threads(t); now > before+deaf/4 {
			t.Errorf("%d threads, %d before", now, before)
		}
		q.Close()
	})
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

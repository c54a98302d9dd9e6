// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func treeOf(pid int32) Request { return Request{Root: event.ID{PID: pid, Start: 1}} }

func TestQueue(t *testing.T) {
	began, goOn := make(chan int32), make(chan struct{})
	reported := make(chan int32, 10)
	var running, most atomic.Int32
	q := NewQueue(2, 1, func(_ context.Context, req Request) wire.Kill {
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
	q = NewQueue(1, 1, func(context.Context, Request) wire.Kill { return wire.Kill{} },
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

// TestQueueUnreaped: a kill that only waits for its dead to be reaped holds up no other.
func TestQueueUnreaped(t *testing.T) {
	reaped, began := make(chan struct{}), make(chan int32)
	q := NewQueue(1, 3, func(_ context.Context, req Request) wire.Kill {
		began <- req.Root.PID
		req.Dead()
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
	if q.running != 0 || len(q.busy) != 0 {
		t.Errorf("%d run, %v are busy", q.running, q.busy)
	}
}

// TestQueueClose: what runs is told to let go, what waits is told the same, and all
// of it is reported.
func TestQueueClose(t *testing.T) {
	began := make(chan struct{}, 3)
	var reports atomic.Int32
	q := NewQueue(1, 2, func(ctx context.Context, _ Request) wire.Kill {
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
	q := NewQueue(2, 0, func(ctx context.Context, req Request) wire.Kill {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return wire.Kill{}
	}, func(req Request, _ wire.Kill) { reported <- req.Root })
	root := func(n int32) Request { return Request{Root: event.ID{PID: n, Start: 1}} }
	for n := range int32(2) {
		if !q.Reserve(root(n).Root) {
			t.Fatalf("no place for %d", n)
		}
	}
	if q.Reserve(root(0).Root) || q.Reserve(root(3).Root) {
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
	if q.Reserve(root(4).Root) {
		t.Error("a place in a closed queue")
	}
}

// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/stream"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come: long, for slow machines.
const patience = 30 * time.Second

// A script is a Source that a test feeds: no kernel, no root.
type script struct {
	mu      sync.Mutex
	waiting []event.Event
	tasks   []event.Task
	taken   uint64
	enough  bool // the test's Read is to end
	looks   int  // how often Tasks was asked
	refused atomic.Uint64
	wake    chan struct{}
	failed  error // what Wait returns
}

// firstPID is above every pid that Linux gives (pid_max is at most 1<<22): nothing
// that a script names is ever found in /proc.
const firstPID = 1 << 23

func newScript() *script { return &script{wake: make(chan struct{}, 1)} }

func (s *script) Read(limit int, fn func(*event.Event)) int {
	n := 0
	s.enough = false
	for ; n < limit && !s.enough; n++ {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.mu.Unlock()
			break
		}
		e := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.taken++
		s.mu.Unlock()
		fn(&e)
	}
	return n
}

func (s *script) Wait(d time.Duration) error {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		return failed
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	}
	return nil
}

func (s *script) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *script) Tasks() ([]event.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return append([]event.Task(nil), s.tasks...), nil
}

func (s *script) Usage() ([]event.Task, error) { return s.Tasks() }

func (s *script) Refused() uint64 { return s.refused.Load() }

func (s *script) Pending() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.waiting))
}

func (s *script) StopReading() { s.enough = true }

func (s *script) Mark() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *script) Untouched(mark uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken+uint64(len(s.waiting)) == mark
}

// send queues records as the kernel would, each with the count of refused ones.
func (s *script) send(events ...event.Event) {
	s.mu.Lock()
	for _, e := range events {
		if e.Time == 0 {
			e.Time = boottime.Now()
		}
		e.HostPID = e.Subject.PID
		e.Refused = s.refused.Load()
		s.waiting = append(s.waiting, e)
	}
	s.mu.Unlock()
	s.Wake()
}

// proc returns the identity of the script's nth process.
func proc(n int) event.ID { return event.ID{PID: firstPID + int32(n), Start: uint64(1000 + n)} }

// plain is the state of a process that has not detached: stdio on a pipe.
func plainOrigin() event.Origin {
	pipe := event.File{Dev: 13, Ino: 4711, Mode: 0o010000}
	return event.Origin{Session: firstPID, StdioKnown: true, Stdio: event.Stdio{pipe, pipe, pipe}}
}

func fork(parent, child int) event.Event {
	return event.Event{Kind: event.KindFork, Subject: proc(child), Comm: event.MakeComm("worker"),
		Fork: event.Fork{Spawner: proc(parent), Caller: proc(parent), Origin: plainOrigin()}}
}

func execed(n int) event.Event {
	return event.Event{Kind: event.KindExec, Subject: proc(n), Ordinal: 1, Comm: event.MakeComm("worker"),
		Exec: event.Exec{Origin: plainOrigin(), Filename: "/bin/worker", Cmdline: "worker\x00-x\x00", MarksKnown: true}}
}

func killed(n int) event.Event {
	return event.Event{Kind: event.KindExit, Subject: proc(n), Comm: event.MakeComm("worker"),
		Exit: event.Exit{Status: 9, HasChildren: true, Adopter: proc(0), AdopterKind: event.AdopterInit}}
}

// atDeath is the kernel's word on a child of a dying process.
func atDeath(parent, child int) event.Event {
	return event.Event{Kind: event.KindChild, Subject: proc(child),
		Child: event.Child{Parent: proc(parent), Origin: plainOrigin()}}
}

func task(n, parent int) event.Task {
	return event.Task{ID: proc(n), HostPID: proc(n).PID, Parent: proc(parent), Comm: event.MakeComm("init"),
		NSInit: n == 0, State: 'S', Threads: 1, RSS: 4096, NeverExeced: true, Origin: event.Origin{Session: firstPID}}
}

// start runs a tracer over the script until the test ends.
func start(t *testing.T, s *script, opt Options) *Tracer {
	t.Helper()
	opt.Log = slog.New(slog.DiscardHandler)
	tracer := New(s, opt)
	run(t, tracer)
	return tracer
}

// run runs a tracer until the test ends, and returns when it is ready.
func run(t *testing.T, tracer *Tracer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-tracer.Ready():
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	settled(t, tracer) // the resync that makes it ready is told after
}

// next returns the next event of the subscription.
func next(t *testing.T, sub *stream.Subscription) *wire.Event {
	t.Helper()
	select {
	case e, ok := <-sub.Events():
		if !ok {
			t.Fatal("the stream has ended")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event")
	}
	return nil
}

// settled returns when everything that was sent before is applied.
func settled(t *testing.T, tracer *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tracer.DoDrained(ctx, nothing); err != nil {
		t.Fatal(err)
	}
}

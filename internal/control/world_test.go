// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// unused is where pids begin that no process has: above the kernel's limit.
const unused = 1 << 23

// A script is a trace.Source whose records a test writes. Its processes do not exist.
type script struct {
	mu      sync.Mutex
	records []event.Event
	taken   uint64
	enough  bool // Read is to end; the reader's
	tasks   []event.Task
	refused atomic.Uint64
	wake    chan struct{}
}

func (s *script) Read(limit int, fn func(*event.Event)) (n int) {
	for s.enough = false; n < limit && !s.enough; n++ {
		s.mu.Lock()
		if len(s.records) == 0 {
			s.mu.Unlock()
			break
		}
		record := s.records[0]
		s.records = s.records[1:]
		s.taken++
		s.mu.Unlock()
		fn(&record)
	}
	return n
}

func (s *script) StopReading() { s.enough = true }

func (s *script) Wait(d time.Duration) error {
	select {
	case <-s.wake:
	case <-time.After(d):
	}
	return nil
}

func (s *script) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *script) Tasks() ([]event.Task, error) { return s.tasks, nil }
func (s *script) Usage() ([]event.Task, error) { return s.Tasks() }
func (s *script) Refused() uint64              { return s.refused.Load() }

func (s *script) Pending() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.records))
}

func (s *script) Mark() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *script) Untouched(mark uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken+uint64(len(s.records)) == mark
}

func (s *script) write(records ...event.Event) {
	s.mu.Lock()
	s.records = append(s.records, records...)
	s.mu.Unlock()
	s.Wake()
}

// Starts implements enforce.Identity: nobody lives.
func (s *script) Starts([]int32) (map[int32]uint64, error) { return nil, nil }

// A world is a controller with its tracer at work upon a script.
type world struct {
	*script
	*Controller
	t      testing.TB
	began  uint64
	events chan *wire.Event
}

// newWorld runs a controller for the rules until the test ends. No warm-up holds it.
func newWorld(t testing.TB, text string, tasks ...event.Task) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	w := &world{t: t, script: &script{tasks: tasks, wake: make(chan struct{}, 1)}, began: boottime.Now() - uint64(time.Minute),
		events: make(chan *wire.Event, 1<<16)}
	alert := func(a wire.Alert) { w.tracer.PublishOnLoop(&wire.Event{Type: wire.TypeAlert, Alert: &a}) }
	w.Controller = New(Options{Tasks: w.script, Log: quiet, OnAlert: alert})
	tracer := trace.New(w.script, trace.Options{Log: quiet, OnOrphans: w.OnOrphans, OnTick: w.OnTick, OnLeaseEnd: w.OnLeaseEnd, OnRead: w.OnRead,
		OnEvent: func(e *wire.Event) {
			w.OnEvent(e)
			w.events <- e
		}})
	w.Attach(tracer)
	if err := w.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tracer.Run(ctx) }()
	t.Cleanup(func() {
		w.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-tracer.Ready()
	return w
}

// next waits for an event that pick picks.
func (w *world) next(what string, pick func(*wire.Event) bool) *wire.Event {
	w.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e := <-w.events:
			if pick(e) {
				return e
			}
		case <-timeout:
			w.t.Fatalf("no %s", what)
		}
	}
}

// leak writes the life of a parent that is killed and leaves a child, whose pid is
// returned.
func (w *world) leak(n int32) int32 {
	start := w.began + uint64(n)*10
	parent, child := event.ID{PID: unused + 2*n, Start: start}, event.ID{PID: unused + 2*n + 1, Start: start + 1}
	w.write(
		event.Event{Kind: event.KindFork, Subject: parent, Time: start},
		event.Event{Kind: event.KindFork, Subject: child, Time: start + 1, Fork: event.Fork{Spawner: parent, Caller: parent}},
		event.Event{Kind: event.KindExec, Subject: child, Time: start + 2, Ordinal: 1, Exec: event.Exec{MarksKnown: true}},
		event.Event{Kind: event.KindChild, Subject: child, Time: start + 3, Child: event.Child{Parent: parent,
			Origin: event.Origin{StdioKnown: true}}},
		event.Event{Kind: event.KindExit, Subject: parent, Time: start + 3, Exit: event.Exit{Status: event.Status(unix.SIGKILL), HasChildren: true}},
	)
	return child.PID
}

// leakChain writes the life of a parent that is killed and leaves a living chain, each the
// child of the one before, and returns them from the top.
func (w *world) leakChain(depth int) []event.ID {
	w.discard()
	ids := make([]event.ID, depth+1)
	for i := range ids {
		ids[i] = event.ID{PID: unused + int32(i), Start: w.began + uint64(i)}
		fork := event.Event{Kind: event.KindFork, Subject: ids[i], Time: ids[i].Start}
		if i > 0 {
			fork.Fork.Spawner, fork.Fork.Caller = ids[i-1], ids[i-1]
		}
		w.write(fork, event.Event{Kind: event.KindExec, Subject: ids[i], Time: ids[i].Start, Ordinal: 1,
			Exec: event.Exec{MarksKnown: true}})
	}
	end := w.began + uint64(depth) + 1
	w.write(event.Event{Kind: event.KindChild, Subject: ids[1], Time: end, Child: event.Child{Parent: ids[0],
		Origin: event.Origin{StdioKnown: true}}},
		event.Event{Kind: event.KindExit, Subject: ids[0], Time: end, Exit: event.Exit{Status: event.Status(unix.SIGKILL), HasChildren: true}})
	w.on(func(*tracker.Tree) {})
	return ids[1:]
}

// discard takes all events, which nobody wants, until the test ends.
func (w *world) discard() {
	stop := make(chan struct{})
	w.t.Cleanup(func() { close(stop) })
	go func() {
		for {
			select {
			case <-w.events:
			case <-stop:
				return
			}
		}
	}()
}

func (w *world) on(fn func(*tracker.Tree)) {
	w.t.Helper()
	if err := w.tracer.DoDrained(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func isKillOf(pid int32) func(*wire.Event) bool {
	return func(e *wire.Event) bool {
		return e.Kill != nil && len(e.Kill.Processes) > 0 && e.Kill.Processes[0].PID == pid
	}
}

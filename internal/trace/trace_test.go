// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/inspect"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func nothing(*tracker.Tree) {}

func TestOrphanToldOnceWithVerdict(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0)}
	tracer := start(t, s, Options{})
	sub := tracer.Subscribe(wire.TypeOrphan, wire.TypeExit)
	defer sub.Close()
	records := []event.Event{fork(0, 1), execed(1), fork(1, 2), execed(2), fork(2, 3),
		atDeath(1, 2), killed(1)}
	s.send(records...)
	s.send(records...) // as after a reader that died before it committed
	s.send(killed(2))

	want := []struct {
		kind    string
		n       int
		direct  bool
		leaker  int
		verdict string
	}{
		{kind: wire.TypeExit, n: 1},
		{wire.TypeOrphan, 2, true, 1, wire.VerdictLeaked},
		{wire.TypeOrphan, 3, false, 1, wire.VerdictUnknown}, // its state cannot be read here
		{kind: wire.TypeExit, n: 2},
	}
	var last uint64
	for _, w := range want {
		e := next(t, sub)
		if e.Type != w.kind || e.Process.PID != proc(w.n).PID || e.Process.StartNS != proc(w.n).Start {
			t.Fatalf("got %s of %d, want %s of %d", e.Type, e.Process.PID, w.kind, proc(w.n).PID)
		}
		if e.Seq <= last || e.Schema != wire.Schema || e.ID == "" || e.TimeNS == 0 {
			t.Errorf("event is not complete: %+v", e)
		}
		last = e.Seq
		if w.kind != wire.TypeOrphan {
			continue
		}
		o := e.Process.Orphan
		if o.Direct != w.direct || o.Verdict != w.verdict || len(o.Evidence) == 0 ||
			o.Leaker == nil || o.Leaker.PID != proc(w.leaker).PID || o.Leaker.Exit.Signal != "SIGKILL" {
			t.Errorf("orphan %d: %+v, leaker %+v", e.Process.PID, o, o.Leaker)
		}
		if w.direct && (o.Adopter == nil || o.Adopter.PID != proc(0).PID || o.Adopter.Kind != "init") {
			t.Errorf("adopter: %+v", o.Adopter)
		}
	}
	settled(t, tracer)
	if n := len(sub.Events()); n != 0 {
		t.Errorf("%d more events", n)
	}
	if n := tracer.Stats().Events[wire.TypeOrphan]; n != 2 {
		t.Errorf("%d orphan events counted, want 2", n)
	}
}

func TestLossIsToldAndHealed(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0)}
	tracer := start(t, s, Options{})
	sub := tracer.Subscribe(wire.TypeLost, wire.TypeResync)
	defer sub.Close()
	// Process 1 was forked and process 2 forked by it, and neither was told.
	lost, below := task(1, 0), task(2, 1)
	lost.ID.Start = boottime.Now()
	below.ID.Start, below.Parent = lost.ID.Start+1, lost.ID
	s.mu.Lock()
	s.tasks = append(s.tasks, lost, below)
	s.mu.Unlock()
	s.refused.Store(3)
	began := time.Now()
	s.Wake()
	if e := next(t, sub); e.Type != wire.TypeLost || e.Lost.Records != 3 {
		t.Fatalf("got %+v, want 3 records lost", e)
	}
	e := next(t, sub)
	if e.Type != wire.TypeResync || e.Resync.Found != 2 || e.Resync.Vanished != 0 {
		t.Fatalf("got %s %+v, want a resync that found 2", e.Type, e.Resync)
	}
	if d := time.Since(began); d > time.Second {
		t.Logf("healed after %v: the machine is busy", d)
	}
	p, err := tracer.Process(t.Context(), proc(2).PID)
	if err != nil {
		t.Fatal(err)
	}
	if p.Lineage != wire.LineageInferred || p.SpawnedBy == nil || p.SpawnedBy.PID != proc(1).PID {
		t.Errorf("lineage %s, spawned by %+v; want inferred, %d", p.Lineage, p.SpawnedBy, proc(1).PID)
	}
	// The same count again is no news.
	settled(t, tracer)
	if n := len(sub.Events()); n != 0 {
		t.Errorf("%d more events", n)
	}
}

func TestLossesWithoutEndDoNotResyncWithoutEnd(t *testing.T) {
	s := newScript()
	tracer := start(t, s, Options{})
	sub := tracer.Subscribe(wire.TypeResync)
	defer sub.Close()
	began := time.Now()
	for i := range uint64(200) {
		s.refused.Store(i + 1)
		settled(t, tracer)
	}
	next(t, sub)
	s.mu.Lock()
	looks := s.looks
	s.mu.Unlock()
	if most := int(time.Since(began)/resyncPause) + 3; looks > most {
		t.Errorf("%d snapshots in %v, want at most %d", looks, time.Since(began), most)
	}
}

func TestVanishedUnseenIsAnExitWithoutEnd(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0), task(1, 0)}
	tracer := start(t, s, Options{})
	sub := tracer.Subscribe(wire.TypeExit)
	defer sub.Close()
	s.mu.Lock()
	s.tasks = s.tasks[:1]
	s.mu.Unlock()
	s.refused.Store(1)
	s.Wake()
	e := next(t, sub)
	if e.Process.PID != proc(1).PID || e.Process.Exit != nil || e.Process.ExitedAt != nil || e.TimeNS == 0 {
		t.Errorf("got %+v, want an exit whose end was not seen", e.Process)
	}
}

func TestSubscriptionsGetTheirTypes(t *testing.T) {
	s := newScript()
	tracer := start(t, s, Options{})
	exits, all, none := tracer.Subscribe(wire.TypeExit), tracer.Subscribe(), tracer.Subscribe(wire.TypeOOM)
	defer exits.Close()
	defer all.Close()
	defer none.Close()
	s.send(fork(0, 1), execed(1), killed(1))
	for _, want := range []string{wire.TypeFork, wire.TypeExec, wire.TypeExit} {
		if e := next(t, all); e.Type != want {
			t.Errorf("got %s, want %s", e.Type, want)
		}
	}
	if e := next(t, exits); e.Type != wire.TypeExit {
		t.Errorf("got %s, want exit", e.Type)
	}
	settled(t, tracer)
	if n := len(exits.Events()) + len(none.Events()); n != 0 {
		t.Errorf("%d events that nobody asked for", n)
	}
}

func TestRecentIsOneStream(t *testing.T) {
	s := newScript()
	tracer := start(t, s, Options{})
	orphans := tracer.Subscribe(wire.TypeOrphan)
	defer orphans.Close()
	middle := uint64(0)
	for i := 1; i <= 20; i++ {
		s.send(fork(0, i), execed(i), fork(i, 100+i), atDeath(i, 100+i), killed(i))
		next(t, orphans) // it is asked about beside the loop
		settled(t, tracer)
		if i == 10 {
			middle = boottime.Now()
		}
	}
	all, err := tracer.Recent(t.Context(), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(all, func(a, b *wire.Event) int { return int(a.Seq) - int(b.Seq) }) {
		t.Error("not in order")
	}
	kinds := make(map[string]int)
	for _, e := range all {
		kinds[e.Type]++
	}
	if kinds[wire.TypeFork] != 40 || kinds[wire.TypeExec] != 20 || kinds[wire.TypeExit] != 20 ||
		kinds[wire.TypeOrphan] != 20 || kinds[wire.TypeResync] == 0 {
		t.Errorf("got %v", kinds)
	}
	some, err := tracer.Recent(t.Context(), []string{wire.TypeExec, wire.TypeOrphan}, middle)
	if err != nil {
		t.Fatal(err)
	}
	if len(some) != 20 {
		t.Errorf("%d execs and orphans since the middle, want 20", len(some))
	}
	for _, e := range some {
		if e.TimeNS < middle || e.Type != wire.TypeExec && e.Type != wire.TypeOrphan {
			t.Errorf("got %s at %d", e.Type, e.TimeNS)
		}
	}
}

// Marks that no exec told are read from the environment, in no haste. Nothing with
// these pids is in /proc, which is an error, and an error is never a leak.
func TestMarksThatCannotBeReadAreNoLeak(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0), task(1, 0)}
	tracer := start(t, s, Options{})
	sub := tracer.Subscribe(wire.TypeOrphan)
	defer sub.Close()
	const workers = 200 // more than are asked about at a time
	for i := range workers {
		s.send(fork(1, 100+i))
	}
	for i := range workers {
		s.send(atDeath(1, 100+i))
	}
	s.send(killed(1))
	seen := make(map[int32]bool)
	for range workers {
		e := next(t, sub)
		if seen[e.Process.PID] {
			t.Errorf("%d was told twice", e.Process.PID)
		}
		seen[e.Process.PID] = true
		o := e.Process.Orphan
		if o.Verdict != wire.VerdictUnknown || len(o.Evidence) == 0 {
			t.Errorf("verdict %s, evidence %q", o.Verdict, o.Evidence)
		}
		for _, line := range o.Evidence {
			if strings.Contains(line, "too many questions at once") {
				t.Errorf("%d was not asked about", e.Process.PID)
			}
		}
	}
}

// A stranded process whose own spawner dies while the verdict is being found keeps
// the orphaning that it was announced with.
func TestStrandedKeepsVerdictWhenItsSpawnerDiesToo(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0), task(1, 0)}
	tracer := start(t, s, Options{})
	sub := tracer.Subscribe(wire.TypeOrphan)
	defer sub.Close()
	// The answer comes as a command, after the batch that all these are.
	s.send(fork(1, 2), fork(2, 3), fork(3, 4), atDeath(1, 2), killed(1), killed(3))
	settled(t, tracer)
	for _, n := range []int{2, 3, 4} {
		e := next(t, sub)
		if e.Process.PID != proc(n).PID || e.Process.Orphan == nil {
			t.Fatalf("got %d, want %d", e.Process.PID, proc(n).PID)
		}
		if len(e.Process.Orphan.Evidence) == 0 || e.Process.Orphan.Leaker.PID != proc(1).PID {
			t.Errorf("%d: %+v", e.Process.PID, e.Process.Orphan)
		}
	}
}

// Orphans that die before anyone looks at them, and many others after them, are told all
// the same.
func TestForgottenOrphanIsTold(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0), task(1, 0)}
	tracer := start(t, s, Options{History: 1})
	sub := tracer.Subscribe(wire.TypeOrphan)
	defer sub.Close()
	records := []event.Event{fork(1, 2), fork(2, 3), atDeath(1, 2), killed(1), killed(3), killed(2), fork(0, 4), killed(4), fork(0, 5), killed(5)}
	if err := tracer.Do(t.Context(), func(*tracker.Tree) {
		s.mu.Lock()
		s.waiting = append(s.waiting, records...)
		s.mu.Unlock()
		tracer.DrainOnLoop() // news wait until all are applied
	}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2, 3} {
		e := next(t, sub)
		if e.Process.PID != proc(n).PID || e.Process.State != wire.StateDead {
			t.Fatalf("got %d, %s, want %d, dead", e.Process.PID, e.Process.State, proc(n).PID)
		}
		if o := e.Process.Orphan; o.Verdict == "" || len(o.Evidence) == 0 {
			t.Errorf("%d: %+v", n, o)
		}
	}
}

func TestCanaryIsSeen(t *testing.T) {
	s := newScript()
	tracer := start(t, s, Options{})
	if at := tracer.Stats().CanarySeen; !at.IsZero() {
		t.Fatalf("seen at %v although no record came", at)
	}
	canary := fork(0, 1)
	canary.Fork.Spawner.PID = int32(os.Getpid())
	s.send(fork(0, 2))
	settled(t, tracer)
	if at := tracer.Stats().CanarySeen; !at.IsZero() {
		t.Fatal("a stranger was taken for the canary")
	}
	s.send(canary)
	settled(t, tracer)
	if tracer.Stats().CanarySeen.IsZero() {
		t.Error("not seen")
	}
}

func TestStopped(t *testing.T) {
	s := newScript()
	tracer := New(s, Options{})
	sub := tracer.Subscribe()
	s.failed = errors.New("the ring is gone")
	if err := tracer.Run(t.Context()); !errors.Is(err, s.failed) {
		t.Errorf("Run: %v, want %v", err, s.failed)
	}
	if err := tracer.Do(t.Context(), nothing); !errors.Is(err, ErrStopped) {
		t.Errorf("Do: %v, want %v", err, ErrStopped)
	}
	if _, err := tracer.Tree(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Tree: %v, want %v", err, ErrStopped)
	}
	for range sub.Events() {
	}
	sub.Close()
	if _, ok := <-tracer.Subscribe().Events(); ok {
		t.Error("a subscription after the end delivers")
	}
	tracer.Publish(&wire.Event{Type: wire.TypeAlert}) // must not block
}

func TestProcess(t *testing.T) {
	s := newScript()
	tracer := start(t, s, Options{})
	s.send(fork(0, 1), execed(1), killed(1))
	settled(t, tracer)
	p, err := tracer.Process(t.Context(), proc(1).PID)
	if err != nil {
		t.Fatal(err)
	}
	if p.State != wire.StateDead || p.Exit == nil || p.Exit.Signal != "SIGKILL" || p.Exe != "/bin/worker" ||
		!slices.Equal(p.Cmdline, []string{"worker", "-x"}) {
		t.Errorf("got %+v", p)
	}
	if _, err := tracer.Process(t.Context(), proc(99).PID); !errors.Is(err, inspect.ErrNoProcess) {
		t.Errorf("got %v, want %v", err, inspect.ErrNoProcess)
	}
}

// The loop sleeps the longer, the longer nothing has happened, and no longer than it may.
func TestNap(t *testing.T) {
	const long = 2 * waitQuiet // and not longer than any machine has been up
	for _, tt := range []struct {
		name     string
		silence  time.Duration
		busy     bool
		wakeIn   time.Duration
		min, max time.Duration
	}{
		{"records came", 0, true, 0, waitBusy, waitBusy},
		{"none, but lately", 0, false, 0, waitIdle, waitQuiet},
		{"quiet for a second", time.Second, false, 0, 500 * time.Millisecond, waitQuiet},
		{"quiet for long", long, false, 0, waitQuiet, waitQuiet},
		{"something is due", long, false, 200 * time.Millisecond, 0, 200 * time.Millisecond},
		{"something is overdue", long, false, -time.Second, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tracer := New(newScript(), Options{})
			tracer.last = boottime.Now() - uint64(tt.silence)
			if tt.wakeIn != 0 {
				tracer.wakeAt = uint64(int64(boottime.Now()) + int64(tt.wakeIn))
			}
			if got := tracer.waitTime(tt.busy); got < tt.min || got > tt.max {
				t.Errorf("got %v, want %v to %v", got, tt.min, tt.max)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// nobodysUnit is a service manager that knows no process.
type nobodysUnit struct{}

func (nobodysUnit) Unit(context.Context, int32) (evidence.UnitState, error) {
	return evidence.UnitState{}, nil
}

func (nobodysUnit) Watch(context.Context, func(string)) {}

func (nobodysUnit) Told(string) (evidence.UnitState, bool) { return evidence.UnitState{}, false }

// leased starts a process of the test's own, of which the records say that the holder of a
// lease made it, and has the holder die.
func (w *world) leased() *exec.Cmd {
	w.t.Helper()
	child := exec.Command("sleep", "300")
	if err := child.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = child.Process.Kill() })
	holder := event.ID{PID: unused + 1, Start: w.began + 1}
	id := event.ID{PID: int32(child.Process.Pid), Start: w.began + 2}
	w.write(
		event.Event{Kind: event.KindFork, Subject: holder, Time: w.began + 1},
		event.Event{Kind: event.KindFork, Subject: id, Time: w.began + 2, Fork: event.Fork{Spawner: holder, Caller: holder}},
		event.Event{Kind: event.KindExec, Subject: id, Time: w.began + 3, Ordinal: 1, Exec: event.Exec{MarksKnown: true}},
	)
	w.on(func(*tracker.Tree) { w.tracer.Leases().Hold(lease.Lease{Holder: holder, Grace: time.Hour}) })
	w.write(event.Event{Kind: event.KindExit, Subject: holder, Time: w.began + 4,
		Exit: event.Exit{Status: event.Status(unix.SIGKILL), HasChildren: true}})
	return child
}

// TestFirstSignalsOnTheLoop wants a kill that has nothing to wait for to begin where it was
// decided, one that has to ask a service manager to begin elsewhere, and both told.
func TestFirstSignalsOnTheLoop(t *testing.T) {
	for name, owners := range map[string]evidence.Owners{"nobody to ask": nil, "a service manager": nobodysUnit{}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "budget: {warm_up: 1h}\n")
			w.opt.Owners = owners
			child := w.leased()
			told := w.next("kill", func(e *wire.Event) bool { return e.Type == wire.TypeKill })
			_ = child.Wait()
			if how := child.ProcessState.Sys().(syscall.WaitStatus); how.Signal() != unix.SIGTERM {
				t.Errorf("it ended by %v, want SIGTERM", how.Signal())
			}
			if k := told.Kill; k.Outcome != wire.KillDone || len(k.Processes) != 1 || k.Processes[0].PID != int32(child.Process.Pid) {
				t.Errorf("told %+v", k)
			}
		})
	}
}

// TestFirstSignalsThenClose wants what was begun on the loop to be carried on when the controller
// is closed at once.
func TestFirstSignalsThenClose(t *testing.T) {
	w := newWorld(t, "budget: {warm_up: 1h}\n")
	child := w.leased()
	_ = child.Wait() // it got its first signals, and the loop may not have handed it on
	w.Close()
	w.next("kill", func(e *wire.Event) bool { return e.Type == wire.TypeKill })
	w.on(func(*tracker.Tree) {
		if len(w.firstSignalsSent) > 0 || len(w.killsInFlight) > 0 {
			t.Errorf("left: %v, %v", w.firstSignalsSent, w.killsInFlight)
		}
	})
}

// TestRecentAdjustment wants what was read of a process to serve for a moment only.
func TestRecentAdjustment(t *testing.T) {
	w := newWorld(t, "rules: []\n")
	id := event.ID{PID: unused + 1, Start: w.began}
	w.on(func(*tracker.Tree) {
		// Read in an hour: cacheFor is shorter than this test may be kept from a processor.
		w.bind().facts[id] = details{oomAdj: 17, at: boottime.Now() + uint64(time.Hour)}
		if adj, err := w.view.oomAdj(id); adj != 17 || err != nil {
			t.Errorf("got %d, %v: want what was found a moment ago", adj, err)
		}
		w.view.facts[id] = details{oomAdj: 17, at: boottime.Now() - uint64(cacheFor)}
		if adj, err := w.view.oomAdj(id); err == nil {
			t.Errorf("got %d of nobody", adj)
		}
	})
}

// TestDetailsOfTheDead: what was read of processes does not stay when they are gone, however
// many there were, and stays of those that live.
func TestDetailsOfTheDead(t *testing.T) {
	living := event.ID{PID: unused + 2, Start: 1}
	w := newWorld(t, "rules: []\n", event.Task{ID: living})
	<-w.tracer.Ready()
	w.on(func(*tracker.Tree) {
		v := w.bind()
		v.details(&policy.Process{ID: living})
		for i := range 10 * leastDetails {
			v.details(&policy.Process{ID: event.ID{PID: unused + 1, Start: w.began + uint64(i)}})
		}
		if n := len(v.facts); n > leastDetails {
			t.Errorf("%d are kept", n)
		}
		if _, kept := v.facts[living]; !kept {
			t.Error("those of the living are not kept")
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// withFDs leaves room for so many descriptors, beside those that a kill leaves to others,
// until the test ends.
func withFDs(w *world, n int) {
	w.Helper()
	lowest, err := unix.Dup(0)
	if err != nil {
		w.Fatal(err)
	}
	unix.Close(lowest)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		w.Fatal(err)
	}
	limit := unix.Rlimit{Cur: uint64(lowest + n + reservedFDs), Max: before.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
}

// TestPortions has a tree of 101 for which there are only some descriptors, and wants it
// to be ended all the same, each with its SIGTERM first.
func TestPortions(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "100", "obey")
		withFDs(w, 8)
		kill := w.enforcer().Do(context.Background(), w.request(longGrace))
		for i := range kill.Processes {
			// The test's own process reaps them, in its time.
			if p := &kill.Processes[i]; p.Outcome == wire.OutcomeZombie {
				p.Outcome = wire.OutcomeDied
			}
		}
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 101})
		w.empty()
		for _, p := range kill.Processes {
			if p.Signal != "SIGTERM" {
				t.Errorf("got %+v, want it ended by SIGTERM", p)
			}
		}
	})
}

// TestPortionsOfDeaf gives each portion its grace.
func TestPortionsOfDeaf(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "10", "ignore")
		withFDs(w, 6)
		req := w.request(50 * time.Millisecond)
		req.Held = Hold(req.Targets)
		w.check(w.enforcer().Do(context.Background(), req), wire.KillDone, map[string]int{wire.OutcomeDied: 11})
		w.empty()
	})
}

// TestObservedPortions wants a dry run to look at everybody.
func TestObservedPortions(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "20", "obey")
		withFDs(w, 6)
		req := w.request(longGrace)
		req.Mode = wire.ModeObserve
		w.check(w.enforcer().Do(context.Background(), req), wire.KillObserved, map[string]int{wire.OutcomeWouldKill: 21})
	})
}

// TestNoDescriptors says whom it could not end, and why.
func TestNoDescriptors(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "3", "obey")
		req := w.request(longGrace)
		withFDs(w, 0)
		kill := w.enforcer().Do(context.Background(), req)
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeRefused: 4})
		for _, p := range kill.Processes {
			if !strings.Contains(p.Error, "too many open files") {
				t.Errorf("got %+v, want the reason", p)
			}
		}
	})
}

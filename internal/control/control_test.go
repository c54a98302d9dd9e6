// SPDX-License-Identifier: Apache-2.0

package control

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

const everyLeak = `
budget: {warm_up: 0s, pause: 0s, kills_per_minute: 2}
rules:
  - {name: all, mode: enforce, match: {verdict: [leaked, unknown]}, orphaned_for: 0s}
`

// TestLossHolds wants a gap in the stream to hold kills for the warm-up, from the
// moment it is noticed.
func TestLossHolds(t *testing.T) {
	w := newWorld(t, everyLeak)
	first := w.leak(1)
	if k := w.next("kill", isKillOf(first)).Kill; k.Outcome == wire.KillBudget {
		t.Fatalf("held back without a loss: %s", k.Reason)
	}
	w.on(func(*tracker.Tree) {
		w.spec.WarmUp = time.Hour
		w.budget.Reconfigure(w.spec)
	})
	w.refused.Add(1)
	w.Wake()
	w.next("loss", func(e *wire.Event) bool { return e.Type == wire.TypeLost })
	second := w.leak(2)
	k := w.next("kill", isKillOf(second)).Kill
	if k.Outcome != wire.KillBudget || !strings.Contains(k.Reason, "warming up after a loss") {
		t.Errorf("kill: %+v", k)
	}
	resync := w.next("resync", func(e *wire.Event) bool { return e.Type == wire.TypeResync })
	if !strings.Contains(resync.Resync.Reason, "lost") {
		t.Errorf("resync: %+v", resync.Resync)
	}
}

// TestClockStepHolds wants a step of the wall clock to hold kills, too.
func TestClockStepHolds(t *testing.T) {
	w := newWorld(t, everyLeak)
	w.on(func(*tracker.Tree) {
		w.spec.WarmUp = time.Hour
		w.budget.Reconfigure(w.spec)
		w.wall -= int64(time.Minute)
	})
	w.on(func(*tracker.Tree) { w.noticeStep(boottime.Now()) })
	pid := w.leak(1)
	k := w.next("kill", isKillOf(pid)).Kill
	if k.Outcome != wire.KillBudget || !strings.Contains(k.Reason, "step of the clock") {
		t.Errorf("kill: %+v", k)
	}
}

// TestBudgetAlert wants the alert on a used-up budget also for a tree that a pause
// had held back before, once, and its recovery.
func TestBudgetAlert(t *testing.T) {
	w := newWorld(t, everyLeak)
	var waiting int32
	for n := range int32(3) {
		waiting = w.leak(n + 1)
		w.next("kill", isKillOf(waiting))
	}
	isAlert := func(e *wire.Event) bool { return e.Alert != nil && e.Alert.Name == "budget:all" }
	if a := w.next("alert", isAlert).Alert; a.State != wire.AlertWarning {
		t.Errorf("alert: %+v", a)
	}
	w.on(func(*tracker.Tree) {
		w.budget = policy.NewBudget(w.spec, 0)
	})
	w.leak(5)
	if a := w.next("alert", isAlert).Alert; a.State != wire.AlertOK || a.Previous != wire.AlertWarning {
		t.Errorf("alert: %+v", a)
	}
}

// TestLargestFirst wants the largest tree ended first where memory is short, and the oldest
// elsewhere.
func TestLargestFirst(t *testing.T) {
	c := New(Options{})
	of := func(sizes ...uint64) (decisions []policy.Decision) {
		for _, size := range sizes {
			decisions = append(decisions, policy.Decision{Targets: []policy.Target{{RSS: size / 2}, {Swap: size / 2}}})
		}
		return decisions
	}
	for _, test := range []struct {
		name              string
		percent, pressure float64
		first             uint64
	}{
		{"nothing known", math.NaN(), math.NaN(), 10},
		{"idle", 40, 0, 10},
		{"memory used", 91, math.NaN(), 30},
		{"waited for", 40, 12, 30},
	} {
		c.host.MemoryPercent, c.host.MemoryPressure = test.percent, test.pressure
		decisions := of(10, 30, 20)
		c.sortByMemory(decisions)
		if got := decisions[0].Bytes(); got != test.first {
			t.Errorf("%s: %d comes first, want %d", test.name, got, test.first)
		}
	}
}

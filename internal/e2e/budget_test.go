// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// leaveLeaf leaves one process behind and returns it.
func leaveLeaf(t testing.TB) *process {
	t.Helper()
	f := startFamily(t, "parent", "leaf")
	leaf := f.await("leaf", 1)[0]
	f.killMain()
	return leaf
}

// TestBudget wants the second tree of a minute to wait, and that to be told.
func TestBudget(t *testing.T) {
	d := startDaemon(t, strings.ReplaceAll(armed, "kills_per_minute: 10000", "kills_per_minute: 1"))
	first := leaveLeaf(t)
	first.mustDie()
	d.kill(first.pid, outcomeIs(wire.KillDone))
	second := leaveLeaf(t)
	k := d.kill(second.pid, nil)
	if k.Outcome != wire.KillBudget || outcomeOf(k, second.pid).Outcome != wire.OutcomeWouldKill {
		t.Errorf("kill: %+v", k)
	}
	second.mustLive()
	d.await("an alert", func() bool {
		return d.find(func(e *wire.Event) bool { return e.Alert != nil && e.Alert.Name == "budget:all" }) != nil
	})

	// With a larger one the alert goes at the next kill.
	d.reload(armed)
	third := leaveLeaf(t)
	third.mustDie()
	d.await("the alert goes", func() bool {
		return d.find(func(e *wire.Event) bool {
			return e.Alert != nil && e.Alert.Name == "budget:all" && e.Alert.State == wire.AlertOK
		}) != nil
	})
}

// TestWarmUp wants nobody ended sooner after a start than the warm-up lasts, and
// those who waited ended then.
func TestWarmUp(t *testing.T) {
	const warmUp = 5 * time.Second
	began := time.Now()
	d := startDaemon(t, strings.ReplaceAll(armed, "warm_up: 0s", "warm_up: 5s"))
	leaf := leaveLeaf(t)
	if k := d.kill(leaf.pid, outcomeIs(wire.KillBudget)); !strings.Contains(k.Reason, "warming up after a") {
		t.Errorf("kill: %+v", k)
	}
	leaf.mustDie()
	if took := time.Since(began); took < warmUp {
		t.Errorf("ended %v after the start", took)
	}
	d.kill(leaf.pid, outcomeIs(wire.KillDone))
}

// TestPause wants a rest between two trees.
func TestPause(t *testing.T) {
	const pause = 700 * time.Millisecond
	d := startDaemon(t, strings.ReplaceAll(armed, "pause: 0s", "pause: 700ms"))
	var told [2]uint64
	for i := range told {
		leaf := leaveLeaf(t)
		leaf.mustDie()
		k := d.kill(leaf.pid, outcomeIs(wire.KillDone))
		told[i] = d.find(func(e *wire.Event) bool { return e.Kill == k }).TimeNS
	}
	// The pause begins anew when a kill is over, right before that is told.
	if between := time.Duration(told[1] - told[0]); between < pause/2 {
		t.Errorf("the second ended %v after the first", between)
	}
}

// TestStopFile wants nobody ended while the file exists, and everybody after.
func TestStopFile(t *testing.T) {
	d := startDaemon(t, armed)
	d.touch("stop")
	leaf := leaveLeaf(t)
	if k := d.kill(leaf.pid, nil); k.Outcome != wire.KillBudget || !strings.Contains(k.Reason, "stop file") {
		t.Errorf("kill: %+v", k)
	}
	leaf.mustLive()
	if err := os.Remove(filepath.Join(d.dir, "stop")); err != nil {
		t.Fatal(err)
	}
	d.reload(armed) // which looks at everything again
	leaf.mustDie()
	d.kill(leaf.pid, outcomeIs(wire.KillDone))
}

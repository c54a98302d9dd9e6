// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"errors"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// deaf starts a shell that ignores SIGTERM, as the records have it a child of somebody who is
// killed then.
func (w *world) deaf() event.ID {
	w.t.Helper()
	child := exec.Command("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done")
	out, err := child.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		w.t.Fatal(err)
	}
	parent := event.ID{PID: unused + 1, Start: w.began + 1}
	id := event.ID{PID: int32(child.Process.Pid), Start: w.began + 2}
	w.write(
		event.Event{Kind: event.KindFork, Subject: parent, Time: w.began + 1},
		event.Event{Kind: event.KindFork, Subject: id, Time: w.began + 2, Fork: event.Fork{Spawner: parent, Caller: parent}},
		event.Event{Kind: event.KindExec, Subject: id, Time: w.began + 3, Ordinal: 1, Exec: event.Exec{MarksKnown: true}},
		event.Event{Kind: event.KindChild, Subject: id, Time: w.began + 4, Child: event.Child{Parent: parent, Origin: event.Origin{StdioKnown: true}}},
		event.Event{Kind: event.KindExit, Subject: parent, Time: w.began + 4,
			Exit: event.Exit{Status: event.Status(unix.SIGKILL), HasChildren: true}},
	)
	return id
}

// TestOneKillOfOneTree asks for a clean-up while a rule ends the same tree, and again when it
// is dead: what comes of it is told once, and paid for once.
func TestOneKillOfOneTree(t *testing.T) {
	w := newWorld(t, `
budget: {warm_up: 0s, pause: 0s, kills_per_minute: 1}
rules:
  - {name: first, mode: enforce, orphaned_for: 0s, grace: 1s, match: {verdict: [leaked, unknown]}}
  - {name: second, mode: enforce, orphaned_for: 0s, grace: 1s, match: {verdict: [leaked, unknown]}}
`)
	id := w.deaf()
	for begun := false; !begun; {
		w.on(func(*tracker.Tree) { begun = w.killOf(id) != nil })
	}
	kills, err := w.Pass(t.Context(), nil, true, nil, nil)
	if err != nil || len(kills) != 1 || kills[0].Outcome != wire.KillDone {
		t.Fatalf("clean-up beside it: %+v, %v", kills, err)
	}
	told := w.next("kill", func(e *wire.Event) bool { return e.Kill != nil })
	if told.Kill.KillID != kills[0].KillID {
		t.Errorf("told of %s, the clean-up of %s", told.Kill.KillID, kills[0].KillID)
	}
	w.write(event.Event{Kind: event.KindExit, Subject: id, Time: w.began + 5, Exit: event.Exit{Status: event.Status(unix.SIGKILL)}})
	if kills, err := w.Pass(t.Context(), nil, true, nil, nil); err != nil || len(kills) != 0 {
		t.Errorf("clean-up after it: %+v, %v", kills, err)
	}
	w.on(func(*tracker.Tree) {
		select {
		case e := <-w.events:
			if e.Kill != nil {
				t.Errorf("and told of %+v", e.Kill)
			}
		default:
		}
	})
}

// TestLookingPassTellsNobody has a clean-up that ends nothing count and publish nothing, while
// the observing rule itself goes on telling.
func TestLookingPassTellsNobody(t *testing.T) {
	w := newWorld(t, `
budget: {warm_up: 0s, pause: 0s}
rules: [{name: looks, orphaned_for: 0s, match: {verdict: [leaked, unknown]}}]
`)
	id := w.deaf()
	first := w.next("the rule's own", isKillOf(id.PID))
	for _, enforces := range []bool{false, true} {
		kills, err := w.Pass(t.Context(), nil, enforces, nil, nil)
		if err != nil || len(kills) != 1 || kills[0].Outcome != wire.KillObserved {
			t.Fatalf("enforce %v: %+v, %v", enforces, kills, err)
		}
	}
	w.write(event.Event{Kind: event.KindOOM, Subject: id, Time: w.began + 6})
	w.next("what comes behind", func(e *wire.Event) bool {
		if e.Kill != nil {
			t.Errorf("told of %+v, after %s", e.Kill, first.Kill.KillID)
		}
		return e.Type == wire.TypeOOM
	})
}

// TestKillWaitsForRecords begins a kill while records are missing: who executed what is not
// known then, and it waits for the look at all processes.
func TestKillWaitsForRecords(t *testing.T) {
	w := newWorld(t, "rules: []\n")
	holder := event.ID{PID: unused + 1, Start: w.began + 1}
	req := &enforce.Request{KillID: "k", Mode: wire.ModeEnforce}
	w.on(func(*tracker.Tree) {
		w.killsInFlight["k"] = &killInFlight{lease: &lease.Lease{Holder: holder, Grace: time.Second}, armed: true}
		w.refused.Store(7)
		if m := w.check(req, nil); !errors.Is(m.refusal, errIncomplete) {
			t.Errorf("refused for %v, want %v", m.refusal, errIncomplete)
		}
	})
	k := &authorizer{Controller: w.Controller}
	if err := k.ask(t.Context(), req, false); err != nil || k.cache.refusal != nil {
		t.Errorf("after the look: %v, %v", err, k.cache.refusal)
	}
}

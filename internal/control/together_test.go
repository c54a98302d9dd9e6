// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// workers starts so many processes, as the records have it children of somebody who is killed
// then. The command line of the one at odd, as the records have it, is another.
func (w *world) workers(n, odd int) []event.ID {
	w.t.Helper()
	parent := event.ID{PID: unused + 1, Start: w.began + 1}
	records := []event.Event{{Kind: event.KindFork, Subject: parent, Time: w.began + 1}}
	var ids []event.ID
	for i := range n {
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() {
			_ = child.Process.Kill()
			_ = child.Wait()
		})
		id := event.ID{PID: int32(child.Process.Pid), Start: w.began + 2 + uint64(i)}
		run := event.Exec{MarksKnown: true, Filename: "/usr/bin/worker", Cmdline: "worker\x00"}
		if i == odd {
			run.Cmdline = "odd\x00"
		}
		ids = append(ids, id)
		records = append(records,
			event.Event{Kind: event.KindFork, Subject: id, Time: id.Start, Fork: event.Fork{Spawner: parent, Caller: parent}},
			event.Event{Kind: event.KindExec, Subject: id, Time: id.Start, Ordinal: 1, Exec: run})
	}
	end := w.began + uint64(n) + 3
	for _, id := range ids {
		records = append(records, event.Event{Kind: event.KindChild, Subject: id, Time: end,
			Child: event.Child{Parent: parent, Origin: event.Origin{StdioKnown: true}}})
	}
	w.write(append(records, event.Event{Kind: event.KindExit, Subject: parent, Time: end,
		Exit: event.Exit{Status: event.Status(unix.SIGKILL), HasChildren: true}})...)
	return ids
}

// TestOneKillForALeak: sixteen workers of one dead parent are one kill, paid for once, of all
// that the rule matches and of nobody else.
func TestOneKillForALeak(t *testing.T) {
	w := newWorld(t, `
budget: {warm_up: 0s, pause: 1h, kills_per_minute: 1}
rules: [{name: workers, mode: enforce, orphaned_for: 0s, grace: 10s, match: {verdict: [leaked, unknown], cmdline: ^worker}}]
`)
	const odd = 7
	ids := w.workers(16, odd)
	kill := w.next("kill", func(e *wire.Event) bool { return e.Kill != nil }).Kill
	if kill.Outcome != wire.KillDone || len(kill.Processes) != len(ids)-1 || kill.Leak == "" || kill.Fingerprint == "" {
		t.Errorf("%d processes, want %d: %+v", len(kill.Processes), len(ids)-1, kill)
	}
	for _, p := range kill.Processes {
		if p.PID == ids[odd].PID || p.Outcome != wire.OutcomeDied && p.Outcome != wire.OutcomeZombie {
			t.Errorf("%+v", p)
		}
	}
	w.on(func(tree *tracker.Tree) {
		if held, ok := w.tracer.Leaks().Held(kill.Leak); !ok || held.Processes == 0 {
			t.Errorf("the leak of it: %+v, %v", held, ok)
		}
	})
	if err := unix.Kill(int(ids[odd].PID), 0); err != nil {
		t.Errorf("the one that the rule does not match: %v", err)
	}
}

// TestRestOfALeakIsPaid: what becomes due of a leak after its kill, within a minute, waits
// neither for the budget nor for the pause.
func TestRestOfALeakIsPaid(t *testing.T) {
	w := newWorld(t, `
budget: {warm_up: 0s, pause: 1h, kills_per_minute: 1}
rules: [{name: workers, mode: enforce, orphaned_for: 0s, grace: 10s, match: {verdict: [leaked, unknown], cmdline: ^worker}}]
`)
	const late = 1
	ids := w.workers(3, late)
	first := w.next("kill", func(e *wire.Event) bool { return e.Kill != nil }).Kill
	w.write(event.Event{Kind: event.KindExec, Subject: ids[late], Time: w.began + 30, Ordinal: 2,
		Exec: event.Exec{MarksKnown: true, Filename: "/usr/bin/worker", Cmdline: "worker\x00"}})
	w.on(func(*tracker.Tree) { w.OnOrphans([]event.ID{ids[late]}) })
	second := w.next("second kill", func(e *wire.Event) bool { return e.Kill != nil }).Kill
	if second.Outcome != wire.KillDone || second.Leak != first.Leak || len(second.Processes) != 1 || second.Processes[0].PID != ids[late].PID {
		t.Errorf("got %+v", second)
	}
}

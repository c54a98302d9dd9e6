// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os/exec"
	"testing"

	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// TestPreparedIsProven wants a pidfd that was opened for a decision to be kept only where
// the records tell that the process had the pid until after the opening.
func TestPreparedIsProven(t *testing.T) {
	w := newWorld(t, "rules: []\n")
	child := exec.Command("sleep", "300")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	// Whoever really has the pid: the records say who should.
	id := event.ID{PID: int32(child.Process.Pid), Start: w.began + 5}
	spawner := event.ID{PID: unused, Start: w.began}
	w.write(
		event.Event{Kind: event.KindFork, Subject: spawner, Time: w.began},
		event.Event{Kind: event.KindFork, Subject: id, Time: id.Start, Fork: event.Fork{Spawner: spawner, Caller: spawner}},
	)
	members := []policy.Target{{ID: id}}
	request := func() enforce.Request {
		return enforce.Request{KillID: "k", Targets: []enforce.Target{{ID: id}}}
	}
	w.on(func(*tracker.Tree) {
		decided := w.tracer.MarkOnLoop()
		now := request()
		k := w.prepare(&now, members, decided)
		defer now.Release()
		if len(now.Held) != 1 || k.cache == nil || !k.cache.has(id) || !w.tracer.Unchanged(k.cache.mark) {
			t.Errorf("held %v, memo %+v", now.Held, k.cache)
		}
		// It dies after the decision; by now the pid may be anybody's.
		w.write(event.Event{Kind: event.KindExit, Subject: id, Time: id.Start + 1})
		if w.tracer.Unchanged(k.cache.mark) {
			t.Error("the exit goes unnoticed")
		}
		late := request()
		if w.prepare(&late, members, decided); len(late.Held) != 0 {
			t.Errorf("held although it may be another's: %v", late.Held)
		}
	})
}

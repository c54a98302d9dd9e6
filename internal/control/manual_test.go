// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestManualReach names a process with a child and a grandchild, and wants those named whom
// a kill by hand reaches.
func TestManualReach(t *testing.T) {
	known := event.Exec{MarksKnown: true}
	for _, test := range []struct {
		name  string
		kill  ManualKill
		child event.Exec
		want  []int // of the three
	}{
		{name: "its tree", child: known, want: []int{0, 1, 2}},
		{name: "it alone", kill: ManualKill{Scope: wire.ScopeProcess}, child: known, want: []int{0}},
		{name: "a child that is kept", child: event.Exec{MarksKnown: true, Keep: true}, want: []int{0}},
		{name: "a child of which that is not known", child: event.Exec{}, want: []int{0}},
		{name: "a guardian", child: event.Exec{MarksKnown: true, Filename: "/usr/sbin/sshd", Cmdline: "sshd\x00"}, want: []int{0}},
		{name: "whoever asks", kill: ManualKill{By: wire.Requester{PID: unused + 2}}, child: known, want: []int{0}},
		{name: "another user", kill: ManualKill{By: wire.Requester{UID: 65534}}, child: known},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "budget: {warm_up: 1h}\n")
			ids := []event.ID{{PID: unused + 1, Start: w.began + 1}, {PID: unused + 2, Start: w.began + 2}, {PID: unused + 3, Start: w.began + 3}}
			w.write(
				event.Event{Kind: event.KindFork, Subject: ids[0], Time: w.began + 1},
				event.Event{Kind: event.KindFork, Subject: ids[1], Time: w.began + 2, Fork: event.Fork{Spawner: ids[0], Caller: ids[0]}},
				event.Event{Kind: event.KindExec, Subject: ids[1], Time: w.began + 3, Ordinal: 1, Exec: test.child},
				event.Event{Kind: event.KindFork, Subject: ids[2], Time: w.began + 4, Fork: event.Fork{Spawner: ids[1], Caller: ids[1]}},
			)
			test.kill.PID = ids[0].PID
			w.on(func(*tracker.Tree) {
				aim, err := w.aim(&test.kill)
				if err != nil {
					t.Fatal(err)
				}
				got := make(map[event.ID]bool)
				for _, target := range w.manualReach(w.bind(), &test.kill, aim, nil).targets {
					got[target.ID] = true
				}
				for i, id := range ids {
					want := false
					for _, n := range test.want {
						want = want || n == i
					}
					if got[id] != want {
						t.Errorf("%d of three: reached %v, want %v", i, got[id], want)
					}
				}
			})
		})
	}
}

// TestManualReachOlder: of a child that is older than the tracer its kernel parent says who
// forked it, unless that one adopts.
func TestManualReachOlder(t *testing.T) {
	for _, adopts := range []bool{false, true} {
		parent, child := event.ID{PID: unused + 1, Start: 1000}, event.ID{PID: unused + 2, Start: 2000}
		w := newWorld(t, "rules: []\n", event.Task{ID: parent, Subreaper: adopts}, event.Task{ID: child, Parent: parent})
		w.on(func(tree *tracker.Tree) {
			c, ok := tree.Get(child)
			if !ok || c.Parent != parent {
				t.Fatalf("child: %+v", c)
			}
			walk := reachWalk{c: w.Controller, view: w.bind()}
			if got := walk.isChild(&c); got == adopts {
				t.Errorf("parent adopts %v: a child %v", adopts, got)
			}
		})
	}
}

// TestManualFaults wants a refusal of each kind, and nobody signalled.
func TestManualFaults(t *testing.T) {
	w := newWorld(t, "rules: []\n")
	w.discard()
	id := event.ID{PID: unused + 1, Start: w.began + 1}
	w.write(event.Event{Kind: event.KindFork, Subject: id, Time: w.began + 1})
	w.on(func(*tracker.Tree) {})
	for _, test := range []struct {
		name string
		kill ManualKill
		want ManualFault
	}{
		{"no such pid", ManualKill{PID: unused + 9, StartNS: 1}, NotThere},
		{"no such leak", ManualKill{Leak: "L000000000000"}, NotThere},
		{"another process", ManualKill{PID: id.PID, StartNS: id.Start + 1}, Unfit},
		{"another user", ManualKill{PID: id.PID, StartNS: id.Start, By: wire.Requester{UID: 65534}}, Forbidden},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := w.Kill(ctx, test.kill)
		cancel()
		var refused *ManualError
		if !errors.As(err, &refused) || refused.Fault != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestLeaseReach has a holder die, and wants those named whom its lease reaches.
func TestLeaseReach(t *testing.T) {
	exec := func(e event.Exec) event.Exec {
		e.MarksKnown = true
		return e
	}
	tests := []struct {
		name  string
		lease lease.Lease
		child event.Exec
		want  bool // the child and its own child, or neither
	}{
		{name: "anybody below", child: exec(event.Exec{}), want: true},
		{name: "marked to be kept", child: exec(event.Exec{Keep: true})},
		{name: "marks not known, and not to be found out", child: event.Exec{}},
		{name: "not marked, of a marked holder", lease: lease.Lease{Marked: true}, child: exec(event.Exec{})},
		{name: "marked, of a marked holder", lease: lease.Lease{Marked: true}, child: exec(event.Exec{Leash: true}), want: true},
		{name: "kept and marked", lease: lease.Lease{Marked: true}, child: exec(event.Exec{Leash: true, Keep: true})},
		{name: "a guardian", child: exec(event.Exec{Filename: "/usr/sbin/sshd", Cmdline: "sshd\x00"})},
		{name: "a user who may not", lease: lease.Lease{UID: 65534}, child: exec(event.Exec{})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "budget: {warm_up: 1h}\n")
			holder := event.ID{PID: unused + 1, Start: w.began + 1}
			child := event.ID{PID: unused + 2, Start: w.began + 2}
			grandchild := event.ID{PID: unused + 3, Start: w.began + 3}
			w.write(
				event.Event{Kind: event.KindFork, Subject: holder, Time: w.began + 1},
				event.Event{Kind: event.KindFork, Subject: child, Time: w.began + 2, Fork: event.Fork{Spawner: holder, Caller: holder}},
				event.Event{Kind: event.KindExec, Subject: child, Time: w.began + 3, Ordinal: 1, Exec: test.child},
				event.Event{Kind: event.KindFork, Subject: grandchild, Time: w.began + 4, Fork: event.Fork{Spawner: child, Caller: child}},
			)
			test.lease.Holder, test.lease.Grace = holder, time.Second
			w.on(func(tree *tracker.Tree) {
				list, _, _ := w.leaseMembers(w.bind(), test.lease, nil)
				got := make(map[event.ID]bool)
				for _, target := range list {
					got[target.ID] = true
				}
				if got[child] != test.want || got[grandchild] != test.want || got[holder] {
					t.Errorf("reaches %v", list)
				}
			})
		})
	}
}

// TestLeaseBelowKill wants the end of a lease over a tree that is being ended to begin no
// second kill of anybody there, and to be looked at again when that one is done.
func TestLeaseBelowKill(t *testing.T) {
	w := newWorld(t, "rules: []\n")
	ids := w.leakChain(20)
	l := lease.Lease{Holder: ids[0], UID: 0, Grace: time.Second}
	w.on(func(tree *tracker.Tree) {
		a := &killInFlight{armed: true, members: make(map[event.ID]bool)}
		for _, id := range ids[5:] {
			a.members[id] = true
		}
		w.killsInFlight["other"] = a
		list, _, others := w.leaseMembers(w.bind(), l, nil)
		if len(list) != 4 || len(others) != 1 || others[0] != a {
			t.Errorf("%d to be ended, %d others", len(list), len(others))
		}
		if list, _, others := w.leaseMembers(w.bind(), l, a); len(list) != 19 || len(others) != 0 {
			t.Errorf("of the kill's own: %d to be ended, %d others", len(list), len(others))
		}
		before := w.kills
		w.endMembers(l, nil, others)
		if len(a.leases) != 1 || w.kills != before {
			t.Errorf("%d leases wait for it, %d kills begun", len(a.leases), w.kills-before)
		}
		w.report(enforce.Request{KillID: "other"}, wire.Kill{})
	})
	for began := false; !began; {
		w.on(func(*tracker.Tree) { began = w.kills > 0 }) // of those whom the other has left
	}
}

// TestExplainLease wants explain to say what a lease makes of a process below its holder, while
// that one lives and when it is dead.
func TestExplainLease(t *testing.T) {
	for _, test := range []struct {
		name        string
		stays       bool
		child       event.Exec
		held, ended string
	}{
		{name: "reached",
			held:  "pid %d, the holder of a lease, lives: it is ended when that one dies",
			ended: "it kills (mode enforce, scope tree): pid %d, the holder of a lease, is dead"},
		{name: "kept", child: event.Exec{Keep: true},
			held:  "it will outlive pid %d, the holder of a lease: it descends from pid 8388610 (worker), of which is true: its environment says ABOT_TRACE_KEEP=1",
			ended: "pid %d, the holder of a lease, is dead, but it descends from pid 8388610 (worker), of which is true: its environment says ABOT_TRACE_KEEP=1"},
		{name: "named by the holder", stays: true,
			held:  "it will outlive pid %d, the holder of a lease: the holder named it among those who stay",
			ended: "pid %d, the holder of a lease, is dead, but the holder named it among those who stay"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "budget: {warm_up: 1h}\n")
			id := func(n int32) event.ID { return event.ID{PID: unused + n, Start: w.began + uint64(n)} }
			holder, child, grandchild := id(1), id(2), id(3)
			test.child.MarksKnown = true
			w.write(
				event.Event{Kind: event.KindFork, Subject: holder, Time: w.began + 1},
				event.Event{Kind: event.KindExec, Subject: holder, Time: w.began + 1, Ordinal: 1, Exec: event.Exec{MarksKnown: true}},
				event.Event{Kind: event.KindFork, Subject: child, Time: w.began + 2, Fork: event.Fork{Spawner: holder, Caller: holder}},
				event.Event{Kind: event.KindExec, Subject: child, Time: w.began + 3, Ordinal: 2, Comm: event.MakeComm("worker"), Exec: test.child},
				event.Event{Kind: event.KindFork, Subject: grandchild, Time: w.began + 4, Fork: event.Fork{Spawner: child, Caller: child}},
				event.Event{Kind: event.KindExec, Subject: grandchild, Time: w.began + 5, Ordinal: 3, Exec: event.Exec{MarksKnown: true}},
			)
			want := func(why string, applies bool) {
				t.Helper()
				out, err := w.Explain(t.Context(), nil, grandchild.PID)
				if err != nil {
					t.Fatal(err)
				}
				got := out.Rules[len(out.Rules)-1]
				if why = fmt.Sprintf(why, holder.PID); got.Name != "lease" || got.Why != why || got.Applies != applies {
					t.Errorf("got %+v, want %q, %v", got, why, applies)
				}
			}
			w.on(func(*tracker.Tree) {
				w.tracer.Leases().Hold(lease.Lease{Holder: holder, Grace: time.Second})
				if test.stays {
					w.tracer.Leases().GiveBack(holder, []event.ID{grandchild})
				}
			})
			want(test.held, false)
			w.write(event.Event{Kind: event.KindExit, Subject: holder, Time: w.began + 6, Exit: event.Exit{HasChildren: true}})
			want(test.ended, test.name == "reached")
		})
	}
}

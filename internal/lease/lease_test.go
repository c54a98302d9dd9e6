// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

func proc(n int) event.ID { return event.ID{PID: int32(100 + n), Start: uint64(1000 + n)} }

// fork makes process n, by the process with the number given, with or without the mark.
func fork(tree *tracker.Tree, parent, n int, leash bool) {
	tree.Apply(&event.Event{Kind: event.KindFork, Subject: proc(n), Time: proc(n).Start,
		Fork: event.Fork{Spawner: proc(parent), Caller: proc(parent)}})
	tree.Apply(&event.Event{Kind: event.KindExec, Subject: proc(n), Time: proc(n).Start,
		Exec: event.Exec{Filename: "/bin/worker", MarksKnown: true, Leash: leash}})
}

// exit ends process n and tells the table.
func exit(tree *tracker.Tree, table *Table, n int) {
	tree.Apply(&event.Event{Kind: event.KindExit, Subject: proc(n), Time: 5000})
	p, _ := tree.Get(proc(n))
	table.ObserveExit(&p)
}

// TestEnded wants a lease to cover the descendants of its holder from the holder's death
// on, and a declared mark only those that carry it.
func TestEnded(t *testing.T) {
	held := Lease{Holder: proc(1), UID: 7, Grace: time.Second}
	marked := Lease{Holder: proc(1), Grace: DefaultGrace, Marked: true}
	for _, tt := range []struct {
		name  string
		leash [4]bool // of the holder's spawner, the holder, its child and grandchild
		hold  bool
		want  *Lease // covers the grandchild
	}{
		{"none", [4]bool{}, false, nil},
		{"taken", [4]bool{}, true, &held},
		{"by the outermost mark", [4]bool{false, true, true, true}, false, &marked},
		{"not by a mark inside", [4]bool{true, true, true, true}, false, nil},
		{"the mark was taken off", [4]bool{false, true, false, false}, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := tracker.New(0)
			table := NewTable(tree)
			for n, leash := range tt.leash {
				fork(tree, n-1, n, leash)
			}
			if tt.hold {
				table.Hold(held)
			}
			if _, ok := table.Ended(proc(3)); ok || table.HasEnded() {
				t.Error("ended before its holder")
			}
			exit(tree, table, 1)
			got, ok := table.Ended(proc(3))
			if tt.want != nil {
				tt.want.ExitSeen = true
			}
			if ok != (tt.want != nil) {
				t.Fatalf("got %+v, %v, want %+v", got, ok, tt.want)
			}
			if ok {
				if diff := cmp.Diff(*tt.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
			if taken := table.TakeEnded(); tt.want != nil && (len(taken) != 1 || taken[0] != *tt.want) {
				t.Errorf("taken: %+v, want %+v", taken, *tt.want)
			}
			if table.HasEnded() || len(table.Held()) != 0 {
				t.Error("there is one left")
			}
		})
	}
}

// TestExpire forgets an ended lease with the last process that it covers.
func TestExpire(t *testing.T) {
	tree := tracker.New(0)
	table := NewTable(tree)
	fork(tree, 0, 1, false)
	fork(tree, 1, 2, false)
	table.Hold(Lease{Holder: proc(1)})
	exit(tree, table, 1)
	table.Expire()
	if len(table.ended) != 1 {
		t.Fatal("forgotten while it covers a process")
	}
	exit(tree, table, 2)
	table.Expire()
	if len(table.ended) != 0 {
		t.Error("kept although it covers nobody")
	}
}

// TestSave goes on from what was saved, and delivers again what had ended.
func TestSave(t *testing.T) {
	tree := tracker.New(0)
	table := NewTable(tree)
	fork(tree, 0, 1, false)
	fork(tree, 1, 2, false)
	held, ended := Lease{Holder: proc(2), Grace: time.Minute}, Lease{Holder: proc(1), UID: 8}
	table.Hold(held)
	table.Hold(ended)
	exit(tree, table, 1)
	ended.ExitSeen = true
	table.TakeEnded()
	b, err := table.Save()
	if err != nil {
		t.Fatal(err)
	}
	saved, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	next := NewTable(tree)
	next.Restore(saved)
	if got := next.Held(); len(got) != 1 || got[0] != held {
		t.Errorf("held: %+v, want %+v", got, held)
	}
	if got := next.TakeEnded(); len(got) != 1 || got[0] != ended {
		t.Errorf("ended: %+v, want %+v", got, ended)
	}
	if _, err := Decode([]byte(`{"held": 1}`)); err == nil {
		t.Error("read what is no table")
	}
}

// TestLater restores the later one of two that were saved, as of the tree of the first.
func TestLater(t *testing.T) {
	l := func(n int) Lease { return Lease{Holder: proc(n), Grace: time.Minute} }
	ended := func(n int) Lease {
		l := l(n)
		l.ExitSeen = true
		return l
	}
	first := Saved{Held: []Lease{l(1), l(2)}, Ended: []Lease{ended(3)}, Changes: 5}
	for _, tt := range []struct {
		name  string
		alone Saved
		want  Saved
	}{
		{"nothing", Saved{}, first},
		{"older", Saved{Held: []Lease{l(9)}, Changes: 4}, first},
		{"as old", Saved{Held: []Lease{l(9)}, Changes: 5}, first},
		{"taken, given back", Saved{Held: []Lease{l(1), l(4)}, Ended: []Lease{ended(3)}, Stays: []Stay{{proc(1), nil}}, Changes: 7},
			Saved{Held: []Lease{l(1), l(4)}, Ended: []Lease{ended(3)}, Stays: []Stay{{proc(1), nil}}, Changes: 7}},
		{"ended since, which is to be seen again", Saved{Held: []Lease{l(1), l(4)}, Ended: []Lease{ended(2), ended(3)}, Changes: 6},
			Saved{Held: []Lease{l(1), l(4), l(2)}, Ended: []Lease{ended(3)}, Changes: 6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, first.with(tt.alone)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if _, err := Later(nil, []byte("{")); err == nil {
		t.Error("read what is no table")
	}
	if b, err := Later(nil, nil); err != nil || len(b) == 0 {
		t.Errorf("of nothing: %q, %v", b, err)
	}
}

// TestForget drops who holds a lease and is not among those that live.
func TestForget(t *testing.T) {
	tree := tracker.New(0)
	table := NewTable(tree)
	fork(tree, 0, 1, false)
	table.Restore(Saved{Held: []Lease{{Holder: proc(1)}, {Holder: proc(2)}}})
	table.Forget()
	if held := table.Held(); len(held) != 1 || held[0].Holder != proc(1) {
		t.Errorf("held: %+v", held)
	}
}

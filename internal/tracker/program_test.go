// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
)

// programs is a tree with init (1), a service (10) that executed its program as number 3, and
// a worker (11) that it forked.
func programs(t *testing.T) (tree *Tree, service, worker event.ID) {
	t.Helper()
	tree = New(0)
	service, worker = event.ID{PID: 10, Start: 10}, event.ID{PID: 11, Start: 20}
	apply(tree,
		event.Event{Kind: event.KindFork, Subject: service, ExecID: 2, Fork: event.Fork{Spawner: testInit, Caller: testInit}},
		event.Event{Kind: event.KindExec, Subject: service, ExecID: 3, Ordinal: 3,
			Exec: event.Exec{Filename: "/service", Cmdline: "/service\x00", MarksKnown: true}},
		event.Event{Kind: event.KindFork, Subject: worker, ExecID: 3, Fork: event.Fork{Spawner: service, Caller: service}},
	)
	return tree, service, worker
}

func apply(tree *Tree, events ...event.Event) (changes []Change) {
	for i := range events {
		changes = append(changes, tree.Apply(&events[i])...)
	}
	return changes
}

// snapshot merges a look that shows each process with the program that it runs.
func snapshot(tree *Tree, programs map[event.ID]uint32, meanwhile ...event.Event) []Change {
	tasks := []event.Task{{ID: testInit}}
	for id, program := range programs {
		tasks = append(tasks, event.Task{ID: id, Parent: testInit, ExecID: program})
	}
	s := tree.Begin(tasks, 1000)
	apply(tree, meanwhile...)
	_, _, changes := s.End()
	return append([]Change(nil), changes...)
}

func mustGet(t *testing.T, tree *Tree, id event.ID) Process {
	t.Helper()
	p, ok := tree.Get(id)
	if !ok {
		t.Fatalf("%v is not known", id)
	}
	return p
}

func has(changes []Change, kind ChangeKind, id event.ID) bool {
	for _, c := range changes {
		if c.Kind == kind && c.ID == id {
			return true
		}
	}
	return false
}

// checkUnread looks whether nothing is held for known of a process whose exec was missed.
func checkUnread(t *testing.T, p *Process) {
	t.Helper()
	if !p.Unread || !p.Missed || p.MarksKnown || p.Filename != "" || p.Cmdline != "" || p.Lineage != LineageInferred {
		t.Errorf("%v: unread %v, missed %v, marks known %v, %q, lineage %v", p.ID, p.Unread, p.Missed, p.MarksKnown, p.Filename, p.Lineage)
	}
}

func TestSnapshotShowsMissedExec(t *testing.T) {
	tree, service, worker := programs(t)
	if p := mustGet(t, tree, worker); p.Unread || !p.MarksKnown || p.Filename != "/service" || p.Lineage != LineageObserved {
		t.Fatalf("the worker before: %+v", p)
	}
	changes := snapshot(tree, map[event.ID]uint32{service: 3, worker: 4})
	if !has(changes, Missed, worker) || has(changes, Missed, service) {
		t.Errorf("changes %+v, want the worker's missed exec", changes)
	}
	p := mustGet(t, tree, worker)
	checkUnread(t, &p)
	if ids := tree.Unread(10, func(id event.ID) bool { return id == worker }); len(ids) != 1 {
		t.Errorf("to be read: %v", ids)
	}

	tree.SetCmdline(worker, "/other", "/other\x00", false)
	if p := mustGet(t, tree, worker); !p.Unread {
		t.Error("read without its marks")
	}
	tree.SetMarks(worker, true, false)
	if p := mustGet(t, tree, worker); p.Unread || !p.Keep || p.Filename != "/other" || p.Lineage != LineageInferred {
		t.Errorf("read again: %+v", p)
	}
	// A repeated record of the fork changes nothing of that.
	apply(tree, event.Event{Kind: event.KindFork, Subject: worker, ExecID: 3, Fork: event.Fork{Spawner: service, Caller: service}})
	if p := mustGet(t, tree, worker); p.Filename != "/other" || p.Lineage != LineageInferred {
		t.Errorf("after its fork came again: %+v", p)
	}
	apply(tree, event.Event{Kind: event.KindExec, Subject: worker, ExecID: 5, Ordinal: 5,
		Exec: event.Exec{Filename: "/seen", Cmdline: "/seen\x00", MarksKnown: true}})
	if p := mustGet(t, tree, worker); p.Unread || p.Missed || p.Keep || p.Filename != "/seen" || p.Lineage != LineageObserved {
		t.Errorf("after an exec that was seen: %+v", p)
	}
}

func TestExecBehindTheSnapshot(t *testing.T) {
	exec := func(worker event.ID) event.Event {
		return event.Event{Kind: event.KindExec, Subject: worker, ExecID: 4, Ordinal: 4,
			Exec: event.Exec{Filename: "/other", Cmdline: "/other\x00", MarksKnown: true, Keep: true}}
	}
	t.Run("its record waits in the ring", func(t *testing.T) {
		tree, service, worker := programs(t)
		changes := snapshot(tree, map[event.ID]uint32{service: 3, worker: 4}, exec(worker))
		if p := mustGet(t, tree, worker); has(changes, Missed, worker) || p.Unread || !p.Keep || p.Lineage != LineageObserved {
			t.Errorf("%+v, changes %+v", p, changes)
		}
	})
	t.Run("its record is being written", func(t *testing.T) {
		tree, service, worker := programs(t)
		snapshot(tree, map[event.ID]uint32{service: 3, worker: 4})
		apply(tree, exec(worker))
		if p := mustGet(t, tree, worker); p.Unread || p.Missed || !p.Keep || p.Lineage != LineageObserved {
			t.Errorf("%+v", p)
		}
	})
	t.Run("of a process that only the snapshot shows", func(t *testing.T) {
		tree, service, worker := programs(t)
		found := event.ID{PID: 12, Start: 30}
		snapshot(tree, map[event.ID]uint32{service: 3, worker: 3, found: 4}, exec(found))
		if p := mustGet(t, tree, found); p.Unread || p.Filename != "/other" || !p.Keep {
			t.Errorf("%+v", p)
		}
	})
}

func TestForkTellsOfMissedExec(t *testing.T) {
	tree, service, worker := programs(t)
	child := event.ID{PID: 12, Start: 30}
	changes := apply(tree, event.Event{Kind: event.KindFork, Subject: child, ExecID: 5, Fork: event.Fork{Spawner: service, Caller: service}})
	if !has(changes, Missed, service) {
		t.Errorf("changes %+v, want the service's missed exec", changes)
	}
	for _, id := range []event.ID{service, child} {
		p := mustGet(t, tree, id)
		checkUnread(t, &p)
	}
	// Who was copied from it before is what it was.
	if p := mustGet(t, tree, worker); p.Unread || p.Filename != "/service" {
		t.Errorf("the worker: %+v", p)
	}
	tree.SetCmdline(service, "/other", "/other\x00", false)
	tree.SetMarks(service, true, false)
	if p := mustGet(t, tree, child); p.Unread || !p.Keep || p.Filename != "/other" || p.Lineage != LineageInferred {
		t.Errorf("the child after the service was read: %+v", p)
	}
	if p := mustGet(t, tree, worker); p.Keep || p.Filename != "/service" {
		t.Errorf("the worker after the service was read: %+v", p)
	}
	// A copy of what was read is no missed exec of its own.
	copied := event.ID{PID: 13, Start: 40}
	apply(tree, event.Event{Kind: event.KindFork, Subject: copied, ExecID: 5, Fork: event.Fork{Spawner: service, Caller: service}})
	if p := mustGet(t, tree, copied); p.Unread || !p.Keep || p.Lineage != LineageObserved {
		t.Errorf("a copy: %+v", p)
	}
}

func TestExitTellsOfMissedExec(t *testing.T) {
	tree, service, worker := programs(t)
	apply(tree, event.Event{Kind: event.KindExit, Subject: service, UID: 7, ExecID: 4, Time: 50,
		Exit: event.Exit{Status: 9, HasChildren: true, Adopter: testInit, EUID: 8, SUID: 9}})
	o := mustGet(t, tree, worker).Orphan
	if o == nil || o.Leaker.Filename != "" || o.Leaker.Cmdline != "" {
		t.Fatalf("the leaker ran what nobody knows: %+v", o)
	}
	if want := (event.UIDs{Real: 7, Effective: 8, Saved: 9}); o.Leaker.End.UIDs != want {
		t.Errorf("the leaker's user ids %+v, want %+v", o.Leaker.End.UIDs, want)
	}
}

// TestMarksOfCopies reads the marks of a process whose exec did not tell them.
func TestMarksOfCopies(t *testing.T) {
	tree, service, worker := programs(t)
	big := event.ID{PID: 12, Start: 30}
	copied, moved := event.ID{PID: 13, Start: 40}, event.ID{PID: 14, Start: 50}
	fork := func(id, from event.ID, program uint32) event.Event {
		return event.Event{Kind: event.KindFork, Subject: id, ExecID: program, Fork: event.Fork{Spawner: from, Caller: from}}
	}
	apply(tree, fork(big, service, 3),
		event.Event{Kind: event.KindExec, Subject: big, ExecID: 4, Ordinal: 4, Exec: event.Exec{Filename: "/big", Cmdline: "/big\x00"}},
		fork(copied, big, 4), fork(moved, copied, 4),
		event.Event{Kind: event.KindExec, Subject: moved, ExecID: 5, Ordinal: 5, Exec: event.Exec{Filename: "/moved", Cmdline: "/moved\x00"}})
	if p := mustGet(t, tree, copied); p.MarksKnown || p.Unread {
		t.Errorf("the copy before: %+v", p)
	}
	tree.SetMarks(big, true, false)
	if p := mustGet(t, tree, copied); !p.MarksKnown || !p.Keep {
		t.Errorf("the copy: %+v", p)
	}
	if p := mustGet(t, tree, moved); p.MarksKnown {
		t.Errorf("who has executed since: %+v", p)
	}
	if p := mustGet(t, tree, worker); p.Keep {
		t.Errorf("the worker: %+v", p)
	}
}

// TestHolderOfALongLine ends a process above as long a line of dead as is kept.
func TestHolderOfALongLine(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		f := &feed{tree: New(100), next: 1}
		holder := f.fork(testInit)
		if pinned {
			f.tree.Pin(holder)
		}
		tip := f.fork(holder)
		for range 2 * maxDeadLine {
			child := f.fork(tip)
			f.exit(tip)
			tip = child
		}
		changes := apply(f.tree, event.Event{Kind: event.KindExit, Subject: holder, Time: 1 << 20, Exit: event.Exit{Status: 9}})
		if p, ok := f.tree.Get(holder); !ok || !p.Dead || !has(changes, Exited, holder) {
			t.Errorf("pinned %v: the exit is reported as %+v, and the process as %+v", pinned, changes, p)
		}
		for range 2 * maxDeadLine {
			child := f.fork(tip)
			f.exit(tip)
			tip = child
		}
		check(t, f.tree)
		if _, ok := f.tree.Get(holder); ok != pinned {
			t.Errorf("pinned %v: remembered %v", pinned, ok)
		}
		saved, err := f.tree.Export(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Import(saved, 100); err != nil {
			t.Errorf("pinned %v: %v", pinned, err)
		}
	}
}

// TestManyVanishAtOnce looks for each death that a snapshot finds, however short the history.
func TestManyVanishAtOnce(t *testing.T) {
	f := &feed{tree: New(2), next: 1}
	var all []event.ID
	for range 20 {
		all = append(all, f.fork(testInit))
	}
	changes := snapshot(f.tree, nil)
	for _, id := range all {
		if p, ok := f.tree.Get(id); !ok || !p.Dead || !has(changes, Exited, id) {
			t.Errorf("the death of %v is told, and nobody knows it", id)
		}
	}
	check(t, f.tree)
}

// TestFirstExecBehindTheSnapshot: a snapshot runs ahead of the records, which tell in which
// state the first program began, though a later one runs by then.
func TestFirstExecBehindTheSnapshot(t *testing.T) {
	tree := New(0)
	id, late := event.ID{PID: 50, Start: 500}, event.ID{PID: 51, Start: 510}
	launched := event.Origin{Session: 50, SessionOwn: true, StdioKnown: true}
	fork := func(id event.ID) event.Event {
		return event.Event{Kind: event.KindFork, Subject: id, ExecID: 2, Fork: event.Fork{Spawner: testInit, Caller: testInit}}
	}
	exec := func(id event.ID, program uint32, o event.Origin) event.Event {
		return event.Event{Kind: event.KindExec, Subject: id, ExecID: program, Ordinal: program,
			Exec: event.Exec{Filename: "/x", Cmdline: "/x\x00", MarksKnown: true, Origin: o}}
	}
	// One was known by its fork before, the other is new to the tree.
	apply(tree, fork(id))
	s := tree.Begin([]event.Task{{ID: testInit, ExecID: 1}, {ID: id, Parent: testInit, ExecID: 4}, {ID: late, Parent: testInit, ExecID: 4}}, 1000)
	apply(tree, exec(id, 3, launched), exec(id, 4, event.Origin{HupIgnored: true, StdioKnown: true}))
	apply(tree, fork(late), exec(late, 3, launched), exec(late, 4, event.Origin{HupIgnored: true, StdioKnown: true}))
	s.End()
	for _, id := range []event.ID{id, late} {
		p, ok := tree.Get(id)
		if !ok || !p.Executed || !p.AtExecKnown || p.AtExec != launched {
			t.Errorf("%v: executed %v, state known %v: %+v", id, p.Executed, p.AtExecKnown, p.AtExec)
		}
	}
}

// TestFirstExecMissed: an exec that is not the first does not tell how the first began.
func TestFirstExecMissed(t *testing.T) {
	tree := New(0)
	id := event.ID{PID: 50, Start: 500}
	apply(tree, event.Event{Kind: event.KindFork, Subject: id, ExecID: 2, Fork: event.Fork{Spawner: testInit, Caller: testInit}},
		event.Event{Kind: event.KindExec, Subject: id, ExecID: 4, Ordinal: 4, Exec: event.Exec{Filename: "/x", Cmdline: "/x\x00"}})
	if p, _ := tree.Get(id); !p.Executed || p.AtExecKnown {
		t.Errorf("executed %v, state known %v", p.Executed, p.AtExecKnown)
	}
}

// TestCountsAreNoPrograms: a child that has executed once and its parent that has executed
// once since have the same count of execs, and two programs.
func TestCountsAreNoPrograms(t *testing.T) {
	tree := New(0)
	parent, child, copied := event.ID{PID: 50, Start: 500}, event.ID{PID: 51, Start: 510}, event.ID{PID: 52, Start: 520}
	fork := func(id, from event.ID, program uint32) event.Event {
		return event.Event{Kind: event.KindFork, Subject: id, ExecID: program, Fork: event.Fork{Spawner: from, Caller: from}}
	}
	exec := func(id event.ID, name string) event.Event {
		return event.Event{Kind: event.KindExec, Subject: id, ExecID: 2, Ordinal: 2, Exec: event.Exec{Filename: name, Cmdline: name + "\x00"}}
	}
	apply(tree, fork(parent, testInit, 1), fork(child, parent, 1), exec(child, "/child"), exec(parent, "/parent"), fork(copied, parent, 2))
	tree.SetMarks(parent, false, false)
	for _, tt := range []struct {
		id   event.ID
		want bool
	}{{parent, true}, {child, false}, {copied, true}} {
		if p, _ := tree.Get(tt.id); p.MarksKnown != tt.want {
			t.Errorf("marks of %v are known: %v, want %v", tt.id, p.MarksKnown, tt.want)
		}
	}
	tree.SetMarks(child, true, false)
	if p, _ := tree.Get(child); !p.Keep {
		t.Error("the child's own mark is ignored")
	}
}

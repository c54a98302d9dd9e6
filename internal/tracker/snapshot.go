// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A Snapshot merges one pass over the kernel's tasks into the tree. It is used in
// three steps, with the same goroutine reading the ring in between:
//
//	s := tree.Begin(tasks, began)  // before any event later than the pass is applied
//	... apply what the ring holds ...
//	found, vanished, changes := s.End()
//
// Begin adds what the tree did not know. End declares dead what the pass did not
// show and no exit has explained since.
type Snapshot struct {
	tree  *Tree
	began uint64
	seen  map[event.ID]struct{}
	tasks []event.Task
	found int
}

// Begin merges tasks, a pass that began at the CLOCK_BOOTTIME instant began.
func (t *Tree) Begin(tasks []event.Task, began uint64) *Snapshot {
	t.input(InputBegin, event.ID{}, func(w *writer) {
		w.uint(began)
		w.uint(uint64(len(tasks)))
		for i := range tasks {
			w.task(&tasks[i])
		}
	})
	t.settle()
	s := &Snapshot{tree: t, began: began, seen: make(map[event.ID]struct{}, len(tasks)), tasks: tasks}
	first := !t.synced
	if first {
		t.bootAt = began
		t.synced = true
	}
	t.merging = true
	byID := make(map[event.ID]*event.Task, len(tasks))
	var added []ref
	for i := range tasks {
		task := &tasks[i]
		byID[task.ID] = task
		if task.Dead {
			continue // End takes care of it where it is news
		}
		s.seen[task.ID] = struct{}{}
		if r, isNew := s.take(task); isNew {
			added = append(added, r)
		}
	}
	// Parents may come after their children in the order of pids.
	for i := range tasks {
		if r := t.living(t.find(tasks[i].ID)); r != 0 {
			t.setKernelParent(r, s.parent(tasks[i].Parent, byID))
		}
	}
	for _, r := range added {
		task := byID[t.at(r).id()]
		t.infer(r, task, byID[task.Parent], first)
	}
	return s
}

// take merges one living task, and reports whether the tree did not know it, or by
// reference only.
func (s *Snapshot) take(task *event.Task) (r ref, isNew bool) {
	t := s.tree
	r = t.find(task.ID)
	switch {
	case r == 0:
		holder, ok := t.live[task.ID.PID]
		if ok && t.at(holder).start > task.ID.Start {
			return 0, false // it died, and its pid went to another, after the pass saw it
		}
		if ok {
			// Dead by now. How it ended stands in a record that waits, or was lost.
			t.behind[t.at(holder).id()] = holder
			delete(t.live, task.ID.PID)
		}
		r, isNew = t.add(task.ID), true
		s.found++
	case t.at(r).is(flagDead):
		return 0, false
	default:
		isNew = t.at(r).is(flagStub)
	}
	t.describe(r, task)
	if n := t.at(r); isNew && n.words == 0 && !later(n.execs, task.ExecID) {
		n.execs = task.ExecID
		n.flags |= flagIf(flagUnread, !task.Kthread)
	}
	return r, isNew
}

// parent returns the node of a process that a task names as its parent. A pass may
// leave out a living one that it names: some kernels hide their init.
func (s *Snapshot) parent(id event.ID, byID map[event.ID]*event.Task) ref {
	if byID[id] == nil {
		s.seen[id] = struct{}{}
	}
	if _, held := s.tree.live[id.PID]; held {
		return s.tree.find(id)
	}
	return s.tree.known(id)
}

// describe takes over what a snapshot says of a process itself.
func (t *Tree) describe(r ref, task *event.Task) {
	n := t.at(r)
	n.flags &^= flagStub | flagKthread | flagSubreaper | flagNSInit
	n.flags |= flagIf(flagKthread, task.Kthread) | flagIf(flagSubreaper, task.Subreaper) |
		flagIf(flagNSInit, task.NSInit)
	n.comm, n.uid, n.hostPID = task.Comm, task.UID, task.HostPID
	if n.cgroup == 0 || t.cgroups.get(n.cgroup) != task.Cgroup {
		t.setCgroup(r, task.Cgroup)
	}
}

// infer gives a process whose fork was not seen its likely lineage. Only init and
// subreapers adopt: anyone else that is a parent is the spawner. Of a reaper's child
// it is told by the session, which only a fork hands down: one that is neither the
// child's own nor the reaper's came from somebody else.
func (t *Tree) infer(r ref, task, parentTask *event.Task, first bool) {
	n := t.at(r)
	if n.lineage != LineageObserved {
		n.lineage = LineageInferred
		if first || n.start < t.bootAt {
			n.lineage = LineageUnknown
		}
	}
	parent := n.kernel.parent
	if parent == 0 || n.lineage == LineageObserved || n.spawner.parent != 0 {
		return
	}
	p := t.at(parent)
	reaper := p.pid == 1 || p.is(flagNSInit|flagSubreaper)
	if reaper && adopted(task, parentTask) {
		t.orphanFound(r, parent, adopterKind(p))
		return
	}
	if reaper && !first {
		n.lineage = LineageUnknown
	}
	t.guess(r, parent)
}

// adopted reports whether parent, a reaper, cannot have forked task.
func adopted(task, parent *event.Task) bool {
	session := task.Origin.Session
	return parent != nil && !task.Kthread && session != 0 && !task.Origin.SessionOwn &&
		session != parent.Origin.Session
}

// End finishes the merge. found counts the processes that the tree had not known,
// vanished those that died unseen. The changes are valid until the next call of the
// tree.
func (s *Snapshot) End() (found, vanished int, changes []Change) {
	t := s.tree
	t.input(InputEnd, event.ID{}, nil)
	t.merging = false
	t.changes = t.changes[:0]
	t.settle()
	s.missed()
	var gone []ref
	for _, r := range t.live {
		n := t.at(r)
		if _, ok := s.seen[n.id()]; !ok && n.start < s.began {
			gone = append(gone, r)
		}
	}
	for _, r := range t.behind {
		gone = append(gone, r)
	}
	// Children before their parents, so that nobody who is gone is called an orphan.
	slices.SortFunc(gone, func(a, b ref) int {
		if t.older(a, b) {
			return 1
		}
		return -1
	})
	for _, r := range gone {
		t.die(r, end{}, event.Exit{})
	}
	return s.found, len(gone), t.changes
}

// missed finds those that run another program by now than the last one whose exec was seen
// or read, and those that have executed at all, with all records applied that could have
// told of it.
func (s *Snapshot) missed() {
	t := s.tree
	for i := range s.tasks {
		task := &s.tasks[i]
		r := t.living(t.find(task.ID))
		if r == 0 {
			continue
		}
		t.at(r).flags |= flagIf(flagExeced, !task.NeverExeced && !task.Kthread)
		if later(task.ExecID, t.at(r).execs) {
			t.miss(r, task.ExecID)
		}
	}
}

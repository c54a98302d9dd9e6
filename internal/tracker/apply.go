// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"github.com/abot-trace/abot-trace/internal/event"
)

// ChangeKind says what a Change reports.
type ChangeKind uint8

// The kinds of changes.
const (
	Forked ChangeKind = iota + 1
	Execed
	Exited
	Orphaned
	Signaled
	OOMKilled
	Lost
	// Unseen reports a child that only the kernel's list knew: reason to resync.
	Unseen
	// Missed reports that the process runs a program whose exec was lost: what was known
	// of its program and marks is not true any more.
	Missed
	// Caught reports a signal that does not end the process by itself.
	Caught
	// OrphanedAgain reports that another death made an orphan what it is: that of its own
	// spawner, where it was stranded, or of the process that it was tied to. What is held
	// of it is of before.
	OrphanedAgain
)

// A Change is one thing that an event or a snapshot did to the tree.
type Change struct {
	Kind ChangeKind
	// ID is the process that changed.
	ID event.ID
	// Time is CLOCK_BOOTTIME ns.
	Time uint64
	// Records is how many records were lost (Lost only).
	Records uint64
	// Sent is who signalled what (Signaled and Caught only).
	Sent *Sent
	// OOM is what the OOM killer said (OOMKilled only).
	OOM event.OOM

	at ref // where the process is, as long as the change is valid; 0 is not said
}

func (t *Tree) report(c Change) { t.changes = append(t.changes, c) }

// Apply applies one event and returns what it changed, in order. A record that was
// applied before changes nothing. The slice is valid until the next call.
func (t *Tree) Apply(e *event.Event) []Change {
	if t.recorder != nil {
		t.recorder.Applying(e)
	}
	t.changes = t.changes[:0]
	t.settle()
	if e.Refused > t.refused {
		t.report(Change{Kind: Lost, Time: e.Time, Records: e.Refused - t.refused})
		t.refused = e.Refused
	}
	switch e.Kind {
	case event.KindFork:
		t.fork(e)
	case event.KindExec:
		t.exec(e)
	case event.KindExit:
		t.exit(e)
	case event.KindSignal, event.KindCaught:
		t.received(e)
	case event.KindOOM:
		t.oom(e)
	case event.KindChild:
		t.child(e)
	case event.KindMove:
		t.move(e)
	}
	return t.changes
}

// Refused is how many lost records the tree knows of.
func (t *Tree) Refused() uint64 { return t.refused }

// NoteRefused tells the tree how many records the ring has refused in all, where no
// later record has told it. It returns how many of them are news.
func (t *Tree) NoteRefused(total uint64) uint64 {
	if total <= t.refused {
		return 0
	}
	t.input(InputRefused, event.ID{}, func(w *writer) { w.uint(total) })
	news := total - t.refused
	t.refused = total
	return news
}

// known returns the node of id, and makes a living stub where there is none: its
// fork is older than the tracer, or was lost. It returns 0 where there cannot be one:
// for a process outside the reader's pid namespace, for the kernel itself, and for a
// pid that has a younger owner.
func (t *Tree) known(id event.ID) ref {
	if id.PID == 0 {
		return 0
	}
	if r := t.find(id); r != 0 {
		return r
	}
	if !t.makeRoom(id) {
		return 0
	}
	r := t.add(id)
	t.at(r).flags |= flagStub
	return r
}

func (t *Tree) fork(e *event.Event) {
	r := t.find(e.Subject)
	if r != 0 && (t.at(r).is(flagDead) || t.at(r).lineage == LineageObserved) {
		return
	}
	by := t.spawnerOf(&e.Fork)
	spawner := t.find(by)
	if spawner == 0 {
		spawner = t.known(by)
		r = t.find(e.Subject) // who may have been forgotten for it
	}
	if r == 0 {
		if e.Subject.PID == 0 || !t.makeRoom(e.Subject) {
			return
		}
		r = t.add(e.Subject)
		parent := spawner
		if by != e.Fork.Spawner {
			parent = t.find(e.Fork.Spawner)
		}
		t.setKernelParent(r, parent)
	}
	t.setSpawner(r, spawner)
	if o := t.orphans[r]; o != nil && o.Leaker == nil {
		// A snapshot guessed from the outcome what the records tell in order.
		delete(t.orphans, r)
	}
	n := t.at(r)
	n.flags &^= flagStub
	n.lineage = LineageObserved
	n.hostPID = e.HostPID
	n.spawnPID, n.spawnAt = by.PID, by.Start
	n.flags |= flagIf(flagNSInit, e.Fork.NSInit) | flagIf(flagMoved, e.Fork.Moved) |
		flagIf(flagLeft, by != e.Fork.Spawner)
	t.setOrigin(r, e.Fork.Origin)
	// A snapshot that was taken after the fork may have seen a later program.
	if n.comm == (event.Comm{}) {
		n.comm, n.uid = e.Comm, e.UID
		t.setCgroup(r, e.Fork.Cgroup)
	}
	caller := spawner
	if e.Fork.Caller != by {
		t.callers[r] = e.Fork.Caller
		caller = t.find(e.Fork.Caller)
	}
	t.inherit(r, caller, e.ExecID)
	t.report(Change{Kind: Forked, ID: e.Subject, Time: e.Time, at: r})
	// What forks while its spawner is already known to be dead is an orphan at birth:
	// under CLONE_PARENT the spawner may die while its child forks on its behalf.
	if spawner != 0 && t.at(spawner).is(flagDead) {
		t.orphanBorn(r, spawner)
	}
}

// spawnerOf is who made the process of a fork's record: its parent there, as the kernel has
// it. But CLONE_PARENT makes it a child of the caller's parent: where that one merely adopted
// the caller it has made neither, and the caller is the spawner. An orphan would else leave
// its own lineage by a system call.
func (t *Tree) spawnerOf(f *event.Fork) event.ID {
	if f.Caller == f.Spawner {
		return f.Spawner
	}
	c := t.find(f.Caller)
	if c == 0 {
		return f.Spawner
	}
	n := t.at(c)
	made := event.ID{PID: n.spawnPID, Start: n.spawnAt}
	if made.IsZero() && t.orphans[c] == nil || made == f.Spawner {
		return f.Spawner
	}
	return f.Caller
}

func (t *Tree) setOrigin(r ref, o event.Origin) {
	n := t.at(r)
	t.origins.drop(n.origin)
	n.origin = t.origins.put(o)
}

func (t *Tree) setCgroup(r ref, cgroup uint64) {
	n := t.at(r)
	t.cgroups.drop(n.cgroup)
	n.cgroup = t.cgroups.put(cgroup)
}

func (t *Tree) exec(e *event.Event) {
	r := t.known(e.Subject)
	if r == 0 || t.at(r).is(flagDead) {
		return
	}
	n := t.at(r)
	if e.Ordinal != 0 && e.Ordinal == n.execs && !n.is(flagUnread) {
		return
	}
	t.noteFirstExec(r, e)
	if e.Ordinal != 0 && later(n.execs, e.Ordinal) {
		return // a snapshot has shown a later program already
	}
	n.execs = e.Ordinal
	n.comm, n.uid, n.hostPID = e.Comm, e.UID, e.HostPID
	n.flags &^= programFlags | flagKthread
	n.flags |= flagIf(flagTruncated, e.Exec.Truncated) | flagIf(flagMarksKnown, e.Exec.MarksKnown) |
		flagIf(flagKeep, e.Exec.Keep) | flagIf(flagLeash, e.Exec.Leash)
	t.words.drop(n.words)
	var cut bool
	n.words, cut = t.putWords(words{e.Exec.Filename, e.Exec.Cmdline})
	n.flags |= flagIf(flagTruncated, cut)
	t.setCgroup(r, e.Exec.Cgroup)
	t.report(Change{Kind: Execed, ID: e.Subject, Time: e.Time, at: r})
}

// noteFirstExec takes the state in which the first program begins that r executes since its
// own fork. Where the fork was not seen, or an exec between, that is not known.
func (t *Tree) noteFirstExec(r ref, e *event.Event) {
	n := t.at(r)
	if n.is(flagExeced) {
		return
	}
	n.flags |= flagExeced
	if n.lineage != LineageObserved || n.execs != 0 && later(e.Ordinal, n.execs+1) {
		return
	}
	t.origins.drop(n.begun)
	if o := e.Exec.Origin; o == t.origins.get(n.origin) {
		n.begun = t.origins.share(n.origin)
	} else {
		n.begun = t.origins.put(o)
	}
}

func flagIf(flag uint32, set bool) uint32 {
	if set {
		return flag
	}
	return 0
}

func (t *Tree) exit(e *event.Event) {
	r := t.known(e.Subject)
	if r == 0 || t.at(r).is(flagDead) {
		return
	}
	n := t.at(r)
	n.comm, n.uid, n.hostPID = e.Comm, e.UID, e.HostPID
	if later(e.ExecID, n.execs) {
		t.forgetProgram(r, e.ExecID)
	}
	_, victim := t.victims[r]
	t.die(r, end{
		time:        e.Time,
		status:      e.Exit.Status,
		known:       true,
		oom:         e.Exit.OOM || victim,
		killer:      t.killer(r, e.Exit.Status),
		asked:       t.asked(r, e.Time),
		neverExeced: e.Exit.NeverExeced,
		peakRSS:     e.Exit.PeakRSS,
		cpu:         e.Exit.CPUTime,
		uids:        event.UIDs{Real: e.UID, Effective: e.Exit.EUID, Saved: e.Exit.SUID},
	}, e.Exit)
}

// die marks r dead, gives its children away, announces the orphans, and remembers it
// as long as lineage or history need it.
func (t *Tree) die(r ref, how end, x event.Exit) {
	var adopter ref
	if t.at(r).kernel.first != 0 {
		adopter = t.known(x.Adopter) // may make room by another death: before ours begins
	}
	if t.at(r).is(flagDead) {
		return
	}
	n := t.at(r)
	id, spawner := n.id(), n.spawner.parent
	if how.orphan = t.orphans[r]; how.orphan != nil {
		t.untie(r, how.orphan)
	}
	if t.live[n.pid] == r {
		delete(t.live, n.pid)
	} else {
		delete(t.behind, id)
	}
	delete(t.orphans, r)
	delete(t.signals, r)
	delete(t.victims, r)
	n.flags |= flagDead
	t.dead[id] = r
	t.ends[r] = how
	t.report(Change{Kind: Exited, ID: id, Time: how.time, at: r})

	if !x.NSEnds {
		t.orphanChildren(r, how, x)
		t.releaseTied(r, how)
	}
	delete(t.ties, r)
	t.reparent(r, adopter)
	t.detach(byKernel, r)
	delete(t.atDeath, id)
	t.justDied = append(t.justDied, r)
	t.noteDead(r)
	if t.at(r).held > 0 {
		return
	}
	t.retire(r)
	t.dropHeld(spawner)
}

// reparent gives the kernel's children of r to their adopter.
func (t *Tree) reparent(r, adopter ref) {
	for child := t.at(r).kernel.first; child != 0; child = t.at(r).kernel.first {
		t.detach(byKernel, child)
		t.setKernelParent(child, adopter)
	}
}

func (t *Tree) oom(e *event.Event) {
	r := t.find(e.Subject)
	if e.Subject.Start == 0 {
		// Older kernels name the victim by pid alone.
		r = t.live[e.Subject.PID]
	}
	if r == 0 || t.at(r).is(flagDead) {
		return
	}
	if _, again := t.victims[r]; again {
		return
	}
	t.victims[r] = struct{}{}
	t.report(Change{Kind: OOMKilled, ID: t.at(r).id(), Time: e.Time, OOM: e.OOM})
}

func (t *Tree) move(e *event.Event) {
	r := t.known(e.Subject)
	if r == 0 || t.at(r).is(flagDead) {
		return
	}
	t.setCgroup(r, e.Move.Cgroup)
}

// child takes what the kernel's own list says of one child of a process that is about
// to be reported dead.
func (t *Tree) child(e *event.Event) {
	parent := t.known(e.Child.Parent)
	if parent == 0 || e.Subject.PID == 0 || t.at(parent).is(flagDead) {
		return
	}
	children := t.atDeath[e.Child.Parent]
	if children == nil {
		children = make(map[event.ID]event.Origin)
		t.atDeath[e.Child.Parent] = children
	}
	children[e.Subject] = e.Child.Origin
	if t.find(e.Subject) != 0 {
		return
	}
	// Its fork was lost, or it is older than we are and no snapshot has come yet.
	r := t.known(e.Subject)
	if r == 0 || t.living(parent) == 0 {
		return
	}
	n := t.at(r)
	n.comm, n.uid, n.hostPID = e.Comm, e.UID, e.HostPID
	t.setKernelParent(r, parent)
	if !t.at(parent).is(flagSubreaper | flagNSInit) {
		t.guess(r, parent)
		n.lineage = LineageInferred
	}
	t.unseen++
	t.report(Change{Kind: Unseen, ID: e.Subject, Time: e.Time})
}

// guess takes parent for the spawner of r.
func (t *Tree) guess(r, parent ref) {
	t.setSpawner(r, parent)
	t.at(r).spawnPID, t.at(r).spawnAt = t.at(parent).pid, t.at(parent).start
}

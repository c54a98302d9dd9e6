// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"iter"
	"math/bits"

	"github.com/abot-trace/abot-trace/internal/event"
)

// End is how a process ended.
type End struct {
	// Time is CLOCK_BOOTTIME ns; 0 where the exit was not seen.
	Time uint64
	// Status is meaningful where Known.
	Status event.Status
	Known  bool
	OOM    bool
	// Killer is the signal that ended it and its sender; nil where not known. Where it
	// raised that itself on behalf of another process, it is the other's.
	Killer *Sent
	// Asked is the last signal that had asked it to end before, and that did not end it by
	// itself; nil where there was none.
	Asked *Sent
	// NeverExeced says that it never executed a program since its own fork.
	NeverExeced bool
	UIDs        event.UIDs // the user ids that it died with; meaningful where Known
	PeakRSS     uint64     // bytes, an upper bound
	CPU         uint64     // ns
}

func (e *end) public() End {
	return End{Time: e.time, Status: e.status, Known: e.known, OOM: e.oom, Killer: e.killer, Asked: e.asked, NeverExeced: e.neverExeced,
		UIDs: e.uids, PeakRSS: e.peakRSS, CPU: e.cpu}
}

// A Process is one process as the tree knows it: a copy, valid for ever.
type Process struct {
	ID      event.ID
	HostPID int32
	// Parent is the kernel parent now; zero when dead or not known.
	Parent event.ID
	// Spawner is who made it; zero where that is not known.
	Spawner     event.ID
	SpawnerComm event.Comm // empty where the spawner is forgotten
	// Caller is who called fork, where that is not Spawner (CLONE_PARENT).
	Caller event.ID
	// LeftLineage says that Spawner made it by CLONE_PARENT as a child of the process that
	// had adopted Spawner: for the kernel it never was a child of its spawner.
	LeftLineage bool
	Lineage     Lineage

	Comm      event.Comm
	Filename  string // as given to execve; empty where not seen
	Cmdline   string // NUL-separated; empty where not seen
	Truncated bool
	UID       uint32
	Cgroup    uint64
	// AtFork is its state at the fork; meaningful where AtForkKnown.
	AtFork      event.Origin
	AtForkKnown bool
	// Executed says that it executed a program since its own fork, and AtExec is its state
	// when the first one began; meaningful where AtExecKnown.
	Executed    bool
	AtExec      event.Origin
	AtExecKnown bool

	Kthread, Subreaper, NSInit bool
	MarksKnown, Keep, Leash    bool
	// Program tells its programs apart: it grows with each exec.
	Program uint32
	// Unread says that what it runs was neither seen at the exec nor read since: Filename
	// and Cmdline are empty then. Missed says that the exec was lost; its lineage is only
	// inferred for as long as it runs that program.
	Unread, Missed bool

	Dead bool
	End  End // when Dead
	// Orphan is shared with the tree, which changes it: read it before the next call
	// that may, or copy it. nil when it is no orphan.
	Orphan *Orphan
}

func (t *Tree) process(r ref) (p Process) {
	t.copyTo(r, &p)
	return p
}

// copyTo is process into p, of which all is written anew: processes are large to move.
func (t *Tree) copyTo(r ref, p *Process) {
	n := t.at(r)
	w := t.words.get(n.words)
	*p = Process{
		ID:          n.id(),
		HostPID:     n.hostPID,
		Spawner:     event.ID{PID: n.spawnPID, Start: n.spawnAt},
		Caller:      t.callers[r],
		LeftLineage: n.is(flagLeft),
		Lineage:     n.knownLineage(),
		Comm:        n.comm,
		Filename:    w.filename,
		Cmdline:     w.cmdline,
		Truncated:   n.is(flagTruncated),
		UID:         n.uid,
		Cgroup:      t.cgroups.get(n.cgroup),
		AtFork:      t.origins.get(n.origin),
		AtForkKnown: n.origin != 0,
		Executed:    n.is(flagExeced),
		AtExec:      t.origins.get(n.begun),
		AtExecKnown: n.begun != 0,
		Kthread:     n.is(flagKthread),
		Subreaper:   n.is(flagSubreaper),
		NSInit:      n.is(flagNSInit),
		MarksKnown:  n.is(flagMarksKnown),
		Keep:        n.is(flagKeep),
		Leash:       n.is(flagLeash),
		Program:     n.execs,
		Unread:      n.is(flagUnread),
		Missed:      n.is(flagMissed),
		Orphan:      t.orphans[r],
	}
	if n.kernel.parent != 0 {
		p.Parent = t.at(n.kernel.parent).id()
	}
	s := n.spawner.parent
	if s == 0 || t.at(s).id() != p.Spawner {
		s = t.find(p.Spawner)
	}
	if s != 0 {
		p.SpawnerComm = t.at(s).comm
	}
	if n.is(flagDead) {
		e := t.ends[r]
		p.Dead, p.End, p.Orphan = true, e.public(), e.orphan
	}
}

// knownLineage is what may be made of its lineage: of who runs what nobody has seen it
// execute, no more than of anyone in a snapshot.
func (n *node) knownLineage() Lineage {
	if n.lineage == LineageObserved && n.is(flagMissed) {
		return LineageInferred
	}
	return n.lineage
}

// Describe writes into p what Get returns of the process that changed. The tree must not
// have changed since.
func (t *Tree) Describe(c *Change, p *Process) bool {
	r := c.at
	if r == 0 || t.at(r).id() != c.ID {
		if r = t.find(c.ID); r == 0 {
			return false
		}
	}
	t.copyTo(r, p)
	return true
}

// Get returns the process with that identity, living or remembered.
func (t *Tree) Get(id event.ID) (Process, bool) {
	r := t.find(id)
	if r == 0 {
		return Process{}, false
	}
	return t.process(r), true
}

// Has reports whether the process is alive.
func (t *Tree) Has(id event.ID) bool {
	r, ok := t.live[id.PID]
	return ok && t.at(r).start == id.Start
}

// Begun returns in whose control groups the process began its life, where its fork was
// observed: those of who called fork, unless it was put into others.
func (t *Tree) Begun(id event.ID) (in event.ID, ok bool) {
	r := t.find(id)
	if r == 0 || t.at(r).lineage != LineageObserved || t.at(r).is(flagMoved) {
		return in, false
	}
	if caller, ok := t.callers[r]; ok {
		return caller, true
	}
	return event.ID{PID: t.at(r).spawnPID, Start: t.at(r).spawnAt}, true
}

// Lookup returns the identity of the living process that has the pid now.
func (t *Tree) Lookup(pid int32) (event.ID, bool) {
	r, ok := t.live[pid]
	if !ok {
		return event.ID{}, false
	}
	return t.at(r).id(), true
}

// LastDead returns the youngest remembered process that had the pid.
func (t *Tree) LastDead(pid int32) (event.ID, bool) {
	var last event.ID
	for id := range t.dead {
		if id.PID == pid && id.Start > last.Start {
			last = id
		}
	}
	return last, !last.IsZero()
}

// All yields every process: the living, and the dead that a living descendant's
// lineage needs; with the history, every dead one that is remembered. The order is
// not defined. The tree must not change meanwhile.
func (t *Tree) All(history bool) iter.Seq[Process] {
	return func(yield func(Process) bool) {
		for _, r := range t.live {
			if !yield(t.process(r)) {
				return
			}
		}
		for _, r := range t.dead {
			if !history && t.at(r).held == 0 {
				continue
			}
			if !yield(t.process(r)) {
				return
			}
		}
	}
}

// AppendAll appends what All yields without the history, nearly in the order in which
// the tree came to know them: so their nodes lie in memory.
func (t *Tree) AppendAll(all []Process) []Process {
	wanted := make(refSet, t.count/64+1)
	for _, r := range t.live {
		wanted.add(r)
	}
	for _, r := range t.dead {
		if t.at(r).held > 0 {
			wanted.add(r)
		}
	}
	for r := range wanted.all() {
		all = append(all, Process{})
		t.copyTo(r, &all[len(all)-1])
	}
	return all
}

// A refSet has a bit for each node: to put them in order takes no comparisons.
type refSet []uint64

func (s refSet) add(r ref) { s[r/64] |= 1 << (r % 64) }

// all yields them in ascending order.
func (s refSet) all() iter.Seq[ref] {
	return func(yield func(ref) bool) {
		for i, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(ref(i*64 + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// OrphanIDs yields the living orphans. The tree must not change meanwhile.
func (t *Tree) OrphanIDs() iter.Seq2[event.ID, *Orphan] {
	return func(yield func(event.ID, *Orphan) bool) {
		for r, o := range t.orphans {
			if !yield(t.at(r).id(), o) {
				return
			}
		}
	}
}

// Children yields the processes that id spawned and that are alive, or dead and
// remembered.
func (t *Tree) Children(id event.ID) iter.Seq[event.ID] {
	return func(yield func(event.ID) bool) {
		r := t.find(id)
		if r == 0 {
			return
		}
		for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
			if !yield(t.at(child).id()) {
				return
			}
		}
	}
}

// Descendants yields the living processes that descend from id by lineage, parents
// before children, without id itself; also those below dead ones.
func (t *Tree) Descendants(id event.ID) iter.Seq[event.ID] {
	return func(yield func(event.ID) bool) {
		if r := t.find(id); r != 0 {
			t.descend(r, yield)
		}
	}
}

func (t *Tree) descend(r ref, yield func(event.ID) bool) bool {
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		n := t.at(child)
		if !n.is(flagDead) && !yield(n.id()) {
			return false
		}
		if !t.descend(child, yield) {
			return false
		}
	}
	return true
}

// Ancestors yields the line of spawners of id, nearest first, dead ones included, as
// far as it is remembered.
func (t *Tree) Ancestors(id event.ID) iter.Seq[Process] {
	return func(yield func(Process) bool) {
		r := t.find(id)
		if r == 0 {
			return
		}
		for at := t.at(r).spawner.parent; at != 0; at = t.at(at).spawner.parent {
			if !yield(t.process(at)) {
				return
			}
		}
	}
}

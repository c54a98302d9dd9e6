// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"github.com/abot-trace/abot-trace/internal/event"
)

// programFlags are those that speak of the program that a process runs, and end with it.
const programFlags = flagTruncated | flagMarksKnown | flagKeep | flagLeash | flagUnread | flagMissed

// later reports whether a process that runs program a has executed since it ran b. The
// kernel counts execs up; the count is handed down by fork and may wrap.
func later(a, b uint32) bool { return a != 0 && int32(a-b) > 0 }

// inherit gives r the program of the process that it was copied from, which ran the
// program with that number then; 0 is not said.
func (t *Tree) inherit(r, from ref, program uint32) {
	if from != 0 && program == 0 {
		program = t.at(from).execs
	}
	if from != 0 && later(program, t.at(from).execs) {
		t.miss(from, program)
	}
	n := t.at(r)
	if n.words != 0 || later(n.execs, program) {
		return // it was seen in a later program already
	}
	n.execs = program
	n.flags |= flagUnread
	if from != 0 && t.at(from).execs == program {
		t.copyProgram(r, from)
	}
}

// copyProgram gives r, which runs the same program as from, what is known of it.
func (t *Tree) copyProgram(r, from ref) {
	n, f := t.at(r), t.at(from)
	t.words.drop(n.words)
	n.words = t.words.share(f.words)
	inherited := programFlags | flagKthread
	if !f.is(flagUnread) {
		// What was read of the one is known of its copies, whose own forks were seen.
		inherited &^= flagMissed
	}
	n.flags = n.flags&^programFlags | f.flags&inherited
}

// miss notes that r, which may be dead, has executed a program without a record of it. As
// an orphan it is one like any that a snapshot shows.
func (t *Tree) miss(r ref, program uint32) {
	t.forgetProgram(r, program)
	if o := t.orphans[r]; o != nil {
		o.Observed = false
	}
	if !t.at(r).is(flagDead) {
		t.report(Change{Kind: Missed, ID: t.at(r).id(), at: r})
	}
}

func (t *Tree) forgetProgram(r ref, program uint32) {
	n := t.at(r)
	t.words.drop(n.words)
	n.words, n.execs = 0, program
	// It has executed, and in which state is not known.
	n.flags = n.flags&^programFlags | flagUnread | flagMissed | flagExeced
}

// SetCmdline records the program and arguments of a process whose exec was not seen, and of
// those that were copied from it since. It changes nothing where they are known.
func (t *Tree) SetCmdline(id event.ID, filename, cmdline string, truncated bool) {
	t.input(InputCmdline, id, func(w *writer) {
		w.string(filename)
		w.string(w.hidden(cmdline))
		w.bool(truncated)
	})
	t.learn(t.find(id), func(r ref) bool {
		n := t.at(r)
		if n.words != 0 {
			return false
		}
		var cut bool
		n.words, cut = t.putWords(words{filename, cmdline})
		n.flags |= flagIf(flagTruncated, truncated || cut)
		return true
	})
}

// SetMarks records the marks in the environment of a process where its exec did not
// tell them, and of those that were copied from it since.
func (t *Tree) SetMarks(id event.ID, keep, leash bool) {
	t.input(InputMarks, id, func(w *writer) {
		w.bool(keep)
		w.bool(leash)
	})
	t.learn(t.find(id), func(r ref) bool {
		if t.at(r).is(flagMarksKnown) {
			return false
		}
		t.at(r).flags |= flagMarksKnown | flagIf(flagKeep, keep) | flagIf(flagLeash, leash)
		return true
	})
}

// learn has set, which reports whether there was something to set, take note of what r
// runs, and goes on with the living copies of r that run it still.
func (t *Tree) learn(r ref, set func(ref) bool) {
	if r == 0 {
		return
	}
	for copies := []ref{r}; len(copies) > 0; {
		r, copies = copies[len(copies)-1], copies[:len(copies)-1]
		if !set(r) {
			continue
		}
		n := t.at(r)
		if n.words != 0 && n.is(flagMarksKnown) {
			n.flags &^= flagUnread
		}
		for child := n.spawner.first; child != 0; child = t.at(child).spawner.next {
			c := t.at(child)
			_, byOther := t.callers[child]
			// One that has executed itself may have the same count, by a program of its own.
			if !c.is(flagDead|flagExeced) && c.lineage == LineageObserved && c.execs == n.execs && !byOther {
				copies = append(copies, child)
			}
		}
	}
}

// NeedsReading reports whether the process lives, is no kernel thread, and its program or
// marks are not known.
func (t *Tree) NeedsReading(id event.ID) bool {
	r, ok := t.live[id.PID]
	return ok && t.at(r).start == id.Start && t.at(r).needsReading()
}

func (n *node) needsReading() bool {
	return !n.is(flagKthread) && (n.words == 0 || !n.is(flagMarksKnown))
}

// Unread returns at most limit living processes, kernel threads apart, whose program or
// marks are not known, of those that accept says.
func (t *Tree) Unread(limit int, accept func(event.ID) bool) []event.ID {
	var ids []event.ID
	for _, r := range t.live {
		n := t.at(r)
		if !n.needsReading() || !accept(n.id()) {
			continue
		}
		if ids = append(ids, n.id()); len(ids) == limit {
			break
		}
	}
	return ids
}

// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A Leaker is the dead spawner of orphans and how it ended. It is shared by all that
// it left behind and never changes.
type Leaker struct {
	ID       event.ID
	Comm     event.Comm
	Filename string
	Cmdline  string // NUL-separated
	UID      uint32
	End      End
}

// An Orphan is what is known of the orphaning of a living process.
type Orphan struct {
	// Since is the spawner's death, CLOCK_BOOTTIME ns; 0 where it was not seen.
	Since uint64
	// Direct is true when the spawner died, false when an ancestor of it did.
	Direct bool
	// Root is itself when it is direct, else the direct orphan that was at the top of its tree
	// when it was stranded: nobody goes through a deep tree at each death in it.
	Root event.ID
	// Leaker is nil when the orphan is older than the tracer.
	Leaker *Leaker
	// Observed says that both the fork and the spawner's exit were seen. Only then
	// may a rule kill.
	Observed bool
	// Lived is the time from its fork to the death; 0 where that is not known.
	Lived time.Duration

	// Adopter is the process that the kernel gives it to; Confirmed when the kernel
	// was asked afterwards.
	Adopter     event.ID
	AdopterComm event.Comm
	AdopterKind event.Adopter
	Confirmed   bool

	// AtDeath is its state when the leaker died, as the kernel's own list had it.
	AtDeath      event.Origin
	AtDeathKnown bool

	// Verdict and Evidence are set by the owner of the tree: see SetVerdict.
	Verdict  string
	Evidence []string
}

// orphanChildren announces the living children of the process that just died as
// direct orphans, and the living descendants of those as stranded. Existing orphans
// keep what they are, with their descendants.
func (t *Tree) orphanChildren(r ref, how end, x event.Exit) {
	var leaker *Leaker
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		if t.at(child).is(flagDead) {
			continue
		}
		if old := t.orphans[child]; old != nil {
			t.nowDirect(child, old, x)
			continue
		}
		if leaker == nil {
			leaker = t.leaker(r, how)
		}
		t.orphan(child, leaker, x.Adopter, x.AdopterKind)
	}
}

func (t *Tree) leaker(r ref, how end) *Leaker {
	n := t.at(r)
	w := t.words.get(n.words)
	return &Leaker{ID: n.id(), Comm: n.comm, Filename: w.filename, Cmdline: w.cmdline, UID: n.uid, End: how.public()}
}

// orphan announces child, and strands its living descendants.
func (t *Tree) orphan(child ref, leaker *Leaker, adopter event.ID, kind event.Adopter) {
	n := t.at(child)
	o := &Orphan{
		Since:       leaker.End.Time,
		Direct:      true,
		Root:        n.id(),
		Leaker:      leaker,
		Observed:    n.knownLineage() == LineageObserved && leaker.End.Known,
		Adopter:     adopter,
		AdopterKind: kind,
	}
	if to := n.kernel.parent; o.Adopter.IsZero() && to != 0 && t.at(to).id() != leaker.ID {
		// Nobody said who would get it, but a snapshot showed who has it now.
		o.Adopter, o.AdopterKind, o.Confirmed = t.at(to).id(), adopterKind(t.at(to)), true
	}
	if to := t.find(o.Adopter); to != 0 {
		o.AdopterComm = t.at(to).comm
	}
	o.Lived = lived(n, o)
	o.AtDeath, o.AtDeathKnown = t.atDeath[leaker.ID][n.id()]
	t.orphans[child] = o
	t.report(Change{Kind: Orphaned, ID: n.id(), Time: o.Since})
	t.strand(child, o)
}

// lived is the time from the fork of n to its orphaning, 0 where either was not seen.
func lived(n *node, o *Orphan) time.Duration {
	if n.lineage != LineageObserved || o.Since <= n.start {
		return 0
	}
	return time.Duration(o.Since - n.start)
}

// strand announces the living descendants of r with the orphaning of their ancestor.
func (t *Tree) strand(r ref, above *Orphan) {
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		n := t.at(child)
		if n.is(flagDead) || t.orphans[child] != nil {
			continue
		}
		o := &Orphan{
			Since:    above.Since,
			Root:     above.Root,
			Leaker:   above.Leaker,
			Observed: above.Observed && n.knownLineage() == LineageObserved,
		}
		o.Lived = lived(n, o)
		t.orphans[child] = o
		t.report(Change{Kind: Orphaned, ID: n.id(), Time: o.Since})
		t.strand(child, o)
	}
}

// nowDirect notes that the spawner of an orphan died too: it was stranded, and now
// its own spawner is gone. It was announced already, and keeps its leaker.
func (t *Tree) nowDirect(child ref, o *Orphan, x event.Exit) {
	if o.Direct {
		return
	}
	o.Direct = true
	o.Root = t.at(child).id()
	o.Adopter, o.AdopterKind, o.Confirmed = x.Adopter, x.AdopterKind, false
	if to := t.find(x.Adopter); to != 0 {
		o.AdopterComm = t.at(to).comm
	}
}

// orphanBorn announces a process whose spawner died between the fork and its record.
func (t *Tree) orphanBorn(r, spawner ref) {
	how := t.ends[spawner]
	t.orphan(r, t.leaker(spawner, how), event.ID{}, event.AdopterUnknown)
}

// orphanFound marks a process that a snapshot shows as adopted by somebody who cannot
// have made it: an orphan whose making was not seen.
func (t *Tree) orphanFound(r ref, adopter ref, kind event.Adopter) {
	n := t.at(r)
	o := &Orphan{Direct: true, Root: n.id(), AdopterKind: kind, Confirmed: true}
	if adopter != 0 {
		o.Adopter, o.AdopterComm = t.at(adopter).id(), t.at(adopter).comm
	}
	t.orphans[r] = o
}

// SetVerdict records the verdict on a direct orphan and, with it, on all that are
// stranded below it.
func (t *Tree) SetVerdict(id event.ID, verdict string, evidence []string) {
	r := t.find(id)
	o := t.orphans[r]
	if o == nil {
		// It may have died while it was being judged.
		o = t.ends[r].orphan
	}
	if o == nil {
		return
	}
	o.Verdict, o.Evidence = verdict, evidence
	if t.at(r).is(flagDead) {
		t.noteDead(r)
	}
	t.passVerdict(r, o)
}

func (t *Tree) passVerdict(r ref, from *Orphan) {
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		if o := t.orphans[child]; o != nil && !o.Direct {
			o.Verdict, o.Evidence = from.Verdict, from.Evidence
			t.passVerdict(child, from)
		}
	}
}

// ConfirmParent records that the kernel was asked for the parent of id: its adopter
// is no longer only expected. It reports false when that says nothing: id is no living
// process, or its parent is none that the tree knows. A dying process is reported
// before the kernel gives its children away, so asked too early the kernel still names
// the dead one: ask again.
func (t *Tree) ConfirmParent(id event.ID, ppid int32) bool {
	r := t.living(t.find(id))
	parent, known := t.live[ppid]
	if r == 0 || !known && ppid != 0 || known && !t.older(parent, r) {
		return false
	}
	t.setKernelParent(r, parent)
	o := t.orphans[r]
	if o == nil || !o.Direct {
		return true
	}
	if parent == 0 {
		// Outside the reader's pid namespace.
		o.Adopter, o.AdopterComm, o.AdopterKind = event.ID{}, event.Comm{}, event.AdopterUnknown
	} else {
		p := t.at(parent)
		if o.Adopter != p.id() {
			o.AdopterKind = event.AdopterUnknown
		}
		o.Adopter, o.AdopterComm = p.id(), p.comm
		if o.AdopterKind == event.AdopterUnknown {
			o.AdopterKind = adopterKind(p)
		}
	}
	o.Confirmed = true
	return true
}

func adopterKind(p *node) event.Adopter {
	switch {
	case p.pid == 1 || p.is(flagNSInit):
		return event.AdopterInit
	case p.is(flagSubreaper):
		return event.AdopterSubreaper
	default:
		return event.AdopterUnknown
	}
}

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
	Cgroup   uint64
	End      End
	// Start is the state that it was forked with; where it never executed, the program that
	// it is a step of, across dead steps above it. Meaningful where StartKnown.
	Start      event.Origin
	StartKnown bool
	// Within is the verdict on the orphan that it was, or lived below, when it died; empty
	// where there was none. WithinSince is since when that one was an orphan.
	Within      string
	WithinSince uint64
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

	// Quiet says that the tracer's own process ended its spawner: nobody is told of it.
	Quiet bool
	// ByTie says that Leaker is not its spawner, but who it was tied to. Launcher is its
	// spawner then, and LauncherLived the time from its fork to that one's death.
	ByTie         bool
	Launcher      *Leaker
	LauncherLived time.Duration
	// Tied is the living process whose death it is judged by, too: see Tie. Zero is none.
	Tied event.ID

	// Abandoned says that nobody is at the other end of its standard input, output or error:
	// see SetAbandoned.
	Abandoned bool

	// Verdict, Provisional and Evidence are set by the owner of the tree: see SetVerdict.
	Verdict     string
	Provisional bool
	Evidence    []string
	// Leak is the id of the leak that it belongs to, empty for none: see SetLeak.
	Leak string
}

// orphanChildren announces the living children of the process that just died as
// direct orphans, and the living descendants of those as stranded. Those that were
// stranded already are judged anew by this death. Direct orphans below keep what they
// are, with their descendants.
func (t *Tree) orphanChildren(r ref, how end, x event.Exit) {
	var leaker *Leaker
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		old := t.orphans[child]
		if t.at(child).is(flagDead) || old != nil && old.Direct {
			continue
		}
		if leaker == nil {
			leaker = t.leaker(r, how)
		}
		if old != nil && t.Ours(&leaker.End) {
			t.moveUp(child, old, x)
			continue
		}
		t.orphan(child, leaker, x.Adopter, x.AdopterKind)
	}
}

// moveUp makes a stranded orphan a direct one, whose spawner the tracer's own process
// ended: it keeps its leaker.
func (t *Tree) moveUp(child ref, old *Orphan, x event.Exit) {
	o := *old
	o.Direct, o.Root = true, t.at(child).id()
	o.Adopter, o.AdopterKind, o.Confirmed = x.Adopter, x.AdopterKind, false
	if to := t.find(x.Adopter); to != 0 {
		o.AdopterComm = t.at(to).comm
	}
	t.orphans[child] = &o
}

func (t *Tree) leaker(r ref, how end) *Leaker {
	n := t.at(r)
	w := t.words.get(n.words)
	l := &Leaker{ID: n.id(), Comm: n.comm, Filename: w.filename, Cmdline: w.cmdline, UID: n.uid,
		Cgroup: t.cgroups.get(n.cgroup), End: how.public()}
	if o := t.within(r); o != nil {
		l.Within, l.WithinSince = o.Verdict, o.Since
	}
	l.Start, l.StartKnown = t.start(r)
	return l
}

// start is the state that r, which is dead, was forked with. Where it never executed, it is
// that of the program that it was a step of.
func (t *Tree) start(r ref) (o event.Origin, known bool) {
	for {
		n := t.at(r)
		o, known = t.origins.get(n.origin), n.origin != 0
		above := n.spawner.parent
		if !t.ends[r].neverExeced || above == 0 || !t.at(above).is(flagDead) || !t.ends[above].neverExeced {
			return o, known
		}
		r = above
	}
}

// within returns the orphan that r is, was, or lives below, nil where there is none.
func (t *Tree) within(r ref) *Orphan {
	for at := r; at != 0; at = t.at(at).spawner.parent {
		if o := t.orphanOf(at); o != nil {
			return o
		}
	}
	return nil
}

// Ours reports whether the tracer's own process ended what a leaker was.
func (t *Tree) Ours(end *End) bool {
	by := func(s *Sent) bool { return s != nil && !s.FromKernel && t.self != 0 && s.Sender.PID == t.self }
	return by(end.Killer) || by(end.Asked)
}

// SetSelf tells the pid of the tracer's own process: what it ends leaves no news.
func (t *Tree) SetSelf(pid int32) { t.self = pid }

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
		Quiet:       t.Ours(&leaker.End),
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
	t.announce(child, o)
	t.strand(child, o, 1)
}

// announce makes child the orphan o. One that it was before keeps its verdict until it is
// judged anew.
func (t *Tree) announce(child ref, o *Orphan) {
	kind := Orphaned
	if old := t.orphans[child]; old != nil {
		kind = OrphanedAgain
		o.Verdict, o.Provisional, o.Evidence, o.Leak = old.Verdict, old.Provisional, old.Evidence, old.Leak
		o.Abandoned = old.Abandoned
		t.untie(child, old)
	}
	t.orphans[child] = o
	t.report(Change{Kind: kind, ID: t.at(child).id(), Time: o.Since})
}

// lived is the time from the fork of n to its orphaning, 0 where either was not seen.
func lived(n *node, o *Orphan) time.Duration {
	if n.lineage != LineageObserved || o.Since <= n.start {
		return 0
	}
	return time.Duration(o.Since - n.start)
}

// maxAgain is how far below a death stranded processes are announced again: a line that
// dies from its top on would else be gone through at each death.
const maxAgain = 16

// strand announces the living descendants of r, as many generations below the death, with
// the orphaning of their ancestor.
func (t *Tree) strand(r ref, above *Orphan, generation int) {
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		n := t.at(child)
		old := t.orphans[child]
		if n.is(flagDead) || old != nil && old.Direct {
			continue
		}
		if old != nil && (generation > maxAgain || above.Quiet) {
			continue
		}
		o := &Orphan{
			Since:    above.Since,
			Root:     above.Root,
			Leaker:   above.Leaker,
			Observed: above.Observed && n.knownLineage() == LineageObserved,
			Quiet:    above.Quiet,
		}
		o.Lived = lived(n, o)
		t.announce(child, o)
		t.strand(child, o, generation+1)
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

// SetVerdict records the verdict on an orphan, living or dead. Those stranded below it have
// verdicts of their own.
func (t *Tree) SetVerdict(id event.ID, verdict string, provisional bool, evidence []string) {
	r := t.find(id)
	o := t.orphans[r]
	if o == nil {
		// It may have died while it was being judged.
		o = t.ends[r].orphan
	}
	if o == nil {
		return
	}
	t.input(InputVerdict, id, func(w *writer) {
		w.string(verdict)
		w.bool(provisional)
		w.uint(uint64(len(evidence)))
		for _, line := range evidence {
			w.string(line)
		}
	})
	o.Verdict, o.Provisional, o.Evidence = verdict, provisional, evidence
	if t.at(r).is(flagDead) {
		t.noteDead(r)
	}
}

// SetAbandoned records that nobody is at the other end of an orphan's standard input, output
// or error.
func (t *Tree) SetAbandoned(id event.ID) {
	if o := t.orphans[t.living(t.find(id))]; o != nil {
		t.input(InputAbandoned, id, nil)
		o.Abandoned = true
	}
}

// SetLeak records which leak an orphan belongs to; empty is none.
func (t *Tree) SetLeak(id event.ID, leak string) {
	r := t.find(id)
	if o := t.orphanOf(r); r != 0 && o != nil {
		t.input(InputLeak, id, func(w *writer) { w.string(leak) })
		o.Leak = leak
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
	t.input(InputParent, id, func(w *writer) { w.uint(uint64(uint32(ppid))) })
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

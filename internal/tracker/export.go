// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// ExportVersion is raised whenever the format below changes in any way. A tree of
// another version is not read: the kernel can be asked again, a misread tree cannot.
const ExportVersion = 7

// ErrMerging is returned by Export between Begin and End of a snapshot.
var ErrMerging = errors.New("tracker: a snapshot is being merged")

// Export appends the whole tree to dst: the living, the dead that are remembered, the
// orphans with leaker, verdict and evidence, and what is half told (signals without a
// death, children's state before it). Equal trees give equal bytes. It costs about a
// microsecond per process and allocates little beside dst. Where it would become too large,
// it leaves out programs, arguments and evidence: of the living the next reader asks again.
//
// The bytes carry no checksum: whoever stores them adds one.
func (t *Tree) Export(dst []byte) ([]byte, error) { return t.export(dst, nil) }

// export is Export with command lines that hide, unless it is nil, has taken secrets from.
func (t *Tree) export(dst []byte, hide func(string) string) ([]byte, error) {
	if t.merging {
		return dst, ErrMerging
	}
	t.settle()
	w := writer{b: dst, tree: t, hide: hide}
	w.uint(ExportVersion)
	w.uint(t.refused)
	w.uint(t.bootAt)
	w.uint(t.unseen)
	w.bool(t.synced)

	w.order()
	w.short = w.estimate() > t.limits.export
	writeTable(&w, w.words, t.words.get, func(v words) { w.text(v.filename); w.text(w.hidden(v.cmdline)) })
	writeTable(&w, w.origins, t.origins.get, w.origin)
	writeTable(&w, w.cgroups, t.cgroups.get, w.uint)
	w.uint(uint64(len(w.leakers)))
	for _, l := range w.leakers {
		w.leaker(l)
	}
	w.uint(uint64(len(w.nodes)))
	for _, r := range w.nodes {
		w.node(r)
	}
	w.uint(uint64(len(t.history)))
	for _, r := range t.history {
		w.ref(r)
	}
	w.pending()
	return w.b, nil
}

// A writer appends to b.
type writer struct {
	b     []byte
	tree  *Tree
	nodes []ref
	place []uint32 // by ref: its place in nodes, from 1

	words, origins, cgroups []interned // in order of first use, as written
	wordsAt, originsAt      []uint32   // by name: its place, from 1
	cgroupsAt               []uint32
	leakers                 []*Leaker
	leakersAt               map[*Leaker]uint32

	short bool                // without words and evidence, which would be too much
	hide  func(string) string // takes secrets from a command line; nil is that all is written
}

// nodeBytes is what a node takes in an export without words and evidence, at most.
const nodeBytes = 400

// estimate is how many bytes will be written at most.
func (w *writer) estimate() int {
	t := w.tree
	n := nodeBytes*len(w.nodes) + t.words.bytes + t.told
	for _, l := range w.leakers {
		n += len(l.Filename) + len(l.Cmdline)
	}
	for _, o := range t.orphans {
		for _, line := range o.Evidence {
			n += len(line)
		}
	}
	return n
}

// order lists what will be written, parents before their children: older, that is.
func (w *writer) order() {
	t := w.tree
	w.nodes = make([]ref, 0, len(t.live)+len(t.dead))
	for _, r := range t.live {
		w.nodes = append(w.nodes, r)
	}
	for _, r := range t.dead {
		w.nodes = append(w.nodes, r)
	}
	slices.SortFunc(w.nodes, func(a, b ref) int {
		x, y := t.at(a), t.at(b)
		return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.pid, y.pid))
	})
	w.place = make([]uint32, t.count)
	w.wordsAt = make([]uint32, len(t.words.values))
	w.originsAt = make([]uint32, len(t.origins.values))
	w.cgroupsAt = make([]uint32, len(t.cgroups.values))
	w.leakersAt = make(map[*Leaker]uint32)
	for i, r := range w.nodes {
		n := t.at(r)
		w.place[r] = uint32(i + 1)
		use(n.words, w.wordsAt, &w.words)
		use(n.origin, w.originsAt, &w.origins)
		use(n.begun, w.originsAt, &w.origins)
		use(n.cgroup, w.cgroupsAt, &w.cgroups)
		w.useLeakers(t.orphanOf(r))
	}
}

// orphanOf returns what r is, or was when it died.
func (t *Tree) orphanOf(r ref) *Orphan {
	if t.at(r).is(flagDead) {
		return t.ends[r].orphan
	}
	return t.orphans[r]
}

func use(i interned, at []uint32, used *[]interned) {
	if i != 0 && at[i] == 0 {
		*used = append(*used, i)
		at[i] = uint32(len(*used))
	}
}

func (w *writer) useLeakers(o *Orphan) {
	if o == nil {
		return
	}
	for _, l := range []*Leaker{o.Leaker, o.Launcher} {
		if l != nil && w.leakersAt[l] == 0 {
			w.leakers = append(w.leakers, l)
			w.leakersAt[l] = uint32(len(w.leakers))
		}
	}
}

func (w *writer) uint(v uint64) { w.b = binary.AppendUvarint(w.b, v) }

func (w *writer) ref(r ref) { w.uint(uint64(w.place[r])) }

func (w *writer) bool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// text writes what a process has chosen the size of.
func (w *writer) text(s string) {
	if w.short {
		s = ""
	}
	w.string(s)
}

func (w *writer) string(s string) {
	w.uint(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) comm(c event.Comm) { w.b = append(w.b, c[:]...) }

func (w *writer) id(id event.ID) {
	w.uint(uint64(uint32(id.PID)))
	w.uint(id.Start)
}

func writeTable[T comparable](w *writer, used []interned, get func(interned) T, write func(T)) {
	w.uint(uint64(len(used)))
	for _, i := range used {
		write(get(i))
	}
}

func (w *writer) origin(o event.Origin) {
	w.uint(uint64(uint32(o.Session)))
	w.bool(o.SessionOwn)
	w.bool(o.HupIgnored)
	w.bool(o.Tty)
	w.bool(o.StdioKnown)
	for _, f := range o.Stdio {
		w.uint(f.Dev)
		w.uint(f.Ino)
		w.uint(uint64(f.Mode))
		w.uint(f.Rdev)
	}
}

func (w *writer) signal(s event.Signal) {
	w.uint(uint64(uint32(s.Signal)))
	w.id(s.Sender)
	w.comm(s.SenderComm)
	w.uint(uint64(s.SenderUID))
	w.bool(s.FromKernel)
	w.uint(uint64(s.Effect))
}

func (w *writer) sent(s *Sent) {
	w.bool(s != nil)
	if s == nil {
		return
	}
	w.signal(s.Signal)
	w.uint(s.Time)
	w.bool(s.BySpawner)
	w.bool(s.ByInit)
	w.string(w.hidden(s.Cmdline))
	w.uint(uint64(len(s.Ancestors)))
	for _, a := range s.Ancestors {
		w.id(a.ID)
		w.comm(a.Comm)
	}
	w.uint(uint64(s.Ordinal))
}

func (w *writer) end(e End) {
	w.uint(e.Time)
	w.uint(uint64(e.Status))
	w.bool(e.Known)
	w.bool(e.OOM)
	w.sent(e.Killer)
	w.sent(e.Asked)
	w.bool(e.NeverExeced)
	w.uids(e.UIDs)
	w.uint(e.PeakRSS)
	w.uint(e.CPU)
}

func (w *writer) uids(u event.UIDs) {
	w.uint(uint64(u.Real))
	w.uint(uint64(u.Effective))
	w.uint(uint64(u.Saved))
}

func (w *writer) leaker(l *Leaker) {
	w.id(l.ID)
	w.comm(l.Comm)
	w.text(l.Filename)
	w.text(w.hidden(l.Cmdline))
	w.uint(uint64(l.UID))
	w.uint(l.Cgroup)
	w.end(l.End)
	w.bool(l.StartKnown)
	if l.StartKnown {
		w.origin(l.Start)
	}
	w.string(l.Within)
	w.uint(l.WithinSince)
}

func (w *writer) orphan(o *Orphan) {
	w.bool(o != nil)
	if o == nil {
		return
	}
	w.uint(o.Since)
	w.bool(o.Direct)
	w.id(o.Root)
	w.uint(uint64(w.leakersAt[o.Leaker]))
	w.bool(o.Observed)
	w.uint(uint64(o.Lived))
	w.id(o.Adopter)
	w.comm(o.AdopterComm)
	w.uint(uint64(o.AdopterKind))
	w.bool(o.Confirmed)
	w.bool(o.AtDeathKnown)
	if o.AtDeathKnown {
		w.origin(o.AtDeath)
	}
	w.bool(o.Abandoned)
	w.bool(o.Quiet)
	w.bool(o.ByTie)
	w.uint(uint64(w.leakersAt[o.Launcher]))
	w.uint(uint64(o.LauncherLived))
	w.id(o.Tied)
	w.string(o.Verdict)
	w.bool(o.Provisional)
	evidence := o.Evidence
	if w.short {
		evidence = nil
	}
	w.uint(uint64(len(evidence)))
	for _, line := range evidence {
		w.string(line)
	}
}

// derivedFlags are made anew by Import.
const derivedFlags = flagHistory

func (w *writer) node(r ref) {
	t := w.tree
	n := t.at(r)
	w.id(n.id())
	w.uint(uint64(uint32(n.hostPID)))
	w.ref(n.spawner.parent)
	w.ref(n.kernel.parent)
	w.id(event.ID{PID: n.spawnPID, Start: n.spawnAt})
	w.uint(uint64(n.uid))
	w.comm(n.comm)
	w.uint(uint64(w.wordsAt[n.words]))
	w.uint(uint64(w.originsAt[n.origin]))
	w.uint(uint64(w.originsAt[n.begun]))
	w.uint(uint64(w.cgroupsAt[n.cgroup]))
	w.uint(uint64(n.execs))
	w.uint(uint64(n.flags &^ derivedFlags))
	w.uint(uint64(n.line))
	w.uint(uint64(n.lineage))
	if n.is(flagDead) {
		e := t.ends[r]
		w.end(e.public())
	}
	w.orphan(t.orphanOf(r))
	caller, other := t.callers[r]
	w.bool(other)
	if other {
		w.id(caller)
	}
}

// pending writes what waits for a process's death.
func (w *writer) pending() {
	t := w.tree
	w.uint(uint64(len(t.signals)))
	for _, r := range w.sorted(len(t.signals), func(r ref) bool { _, ok := t.signals[r]; return ok }) {
		sent := t.signals[r]
		w.ref(r)
		w.sent(sent.first)
		w.sent(sent.last)
		w.uint(uint64(len(sent.caught)))
		for _, s := range sent.caught {
			w.sent(s)
		}
	}
	w.uint(uint64(len(t.victims)))
	for _, r := range w.sorted(len(t.victims), func(r ref) bool { _, ok := t.victims[r]; return ok }) {
		w.ref(r)
	}
	parents := sortedIDs(t.atDeath)
	w.uint(uint64(len(parents)))
	for _, parent := range parents {
		w.id(parent)
		children := sortedIDs(t.atDeath[parent])
		w.uint(uint64(len(children)))
		for _, child := range children {
			w.id(child)
			w.origin(t.atDeath[parent][child])
		}
	}
}

// sorted returns the n nodes that has accepts, in their order.
func (w *writer) sorted(n int, has func(ref) bool) []ref {
	if n == 0 {
		return nil
	}
	refs := make([]ref, 0, n)
	for _, r := range w.nodes {
		if has(r) {
			refs = append(refs, r)
		}
	}
	return refs
}

func sortedIDs[V any](m map[event.ID]V) []event.ID {
	ids := make([]event.ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b event.ID) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
	})
	return ids
}

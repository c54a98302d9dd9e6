// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// ErrMalformed is returned by Import for bytes that Export cannot have written.
var ErrMalformed = errors.New("tracker: malformed export")

// Import returns the tree that Export wrote. history is as for New; where it is
// smaller than what was exported, the oldest dead are forgotten. Any bytes may come:
// the result is a whole tree or an error, and takes a small multiple of len(b).
func Import(b []byte, history int) (*Tree, error) { return importTree(b, history, flagPinned) }

// importTree is Import without the flags of others.
func importTree(b []byte, history int, others uint32) (*Tree, error) {
	r := reader{b: b, tree: New(history)}
	t := r.tree
	if v := r.uint(math.MaxUint64); r.err == nil && v != ExportVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrMalformed, v, ExportVersion)
	}
	t.refused = r.uint(math.MaxUint64)
	t.bootAt = r.uint(math.MaxUint64)
	t.unseen = r.uint(math.MaxUint64)
	t.synced = r.bool()

	r.words = readTable(&r, func() words { return words{r.string(), r.string()} })
	r.origins = readTable(&r, r.origin)
	r.cgroups = readTable(&r, func() uint64 { return r.uint(math.MaxUint64) })
	r.leakers = readTable(&r, r.leaker)
	for range r.count() {
		r.node()
	}
	r.checkLines()
	r.history()
	r.pending()
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes after its end", len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	for at := ref(1); at < t.count; at++ {
		t.at(at).flags &^= others // a pin is a lease's: whoever knows that takes it again
	}
	for at := ref(1); at < t.count; at++ {
		if t.at(at).is(flagDead) {
			t.noteDead(at)
		}
	}
	t.retie()
	for _, at := range r.retired {
		t.retire(at)
	}
	t.settle()
	return t, nil
}

// Replace makes t the tree that other is, which is not to be used any more. Whoever holds
// t goes on with it.
func (t *Tree) Replace(other *Tree) {
	self, recorder, hide := t.self, t.recorder, t.hide
	*t = *other
	t.self, t.recorder, t.hide = self, recorder, hide
}

// A reader takes from b until the first error.
type reader struct {
	b    []byte
	err  error
	tree *Tree

	words   []words
	origins []event.Origin
	cgroups []uint64
	leakers []*Leaker
	last    event.ID // of the node before
	retired []ref    // the history
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	r.b = nil
}

// uint returns a number that is at most limit.
func (r *reader) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("it ends early")
		return 0
	}
	if v > limit {
		r.fail("%d where at most %d can be", v, limit)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count returns a number of things that take at least a byte each.
func (r *reader) count() int { return int(r.uint(uint64(len(r.b)))) }

func (r *reader) int32() int32 { return int32(uint32(r.uint(math.MaxUint32))) }

func (r *reader) uint32() uint32 { return uint32(r.uint(math.MaxUint32)) }

func (r *reader) bool() bool { return r.uint(1) == 1 }

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail("it ends early")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) string() string { return string(r.bytes(r.count())) }

func (r *reader) comm() (c event.Comm) {
	copy(c[:], r.bytes(len(c)))
	return c
}

func (r *reader) id() event.ID { return event.ID{PID: r.int32(), Start: r.uint(math.MaxUint64)} }

// ref returns a node that was read already; 0 is none.
func (r *reader) ref() ref { return ref(r.uint(uint64(r.tree.count - 1))) }

func readTable[T any](r *reader, read func() T) []T {
	n := r.count()
	var values []T
	for range n {
		values = append(values, read())
		if r.err != nil {
			return nil
		}
	}
	return values
}

// value returns one of a table's values; zero for none.
func value[T any](r *reader, table []T) (v T) {
	if i := r.uint(uint64(len(table))); i != 0 {
		return table[i-1]
	}
	return v
}

func (r *reader) origin() event.Origin {
	o := event.Origin{Session: r.int32(), SessionOwn: r.bool(), HupIgnored: r.bool(), Tty: r.bool(), StdioKnown: r.bool()}
	for i := range o.Stdio {
		o.Stdio[i] = event.File{Dev: r.uint(math.MaxUint64), Ino: r.uint(math.MaxUint64),
			Mode: uint32(r.uint(math.MaxUint32)), Rdev: r.uint(math.MaxUint64)}
	}
	return o
}

func (r *reader) signal() event.Signal {
	return event.Signal{Signal: unix.Signal(r.int32()), Sender: r.id(), SenderComm: r.comm(),
		SenderUID: uint32(r.uint(math.MaxUint32)), FromKernel: r.bool(),
		Effect: event.Effect(r.uint(uint64(event.Ignored)))}
}

func (r *reader) sent() *Sent {
	if !r.bool() {
		return nil
	}
	s := &Sent{Signal: r.signal(), Time: r.uint(math.MaxUint64), BySpawner: r.bool(), ByInit: r.bool(), Cmdline: r.string()}
	for range r.uint(maxSenderAncestors) {
		s.Ancestors = append(s.Ancestors, Ancestor{r.id(), r.comm()})
	}
	s.Ordinal = uint32(r.uint(math.MaxUint32))
	return s
}

func (r *reader) end() End {
	e := End{Time: r.uint(math.MaxUint64), Status: event.Status(r.uint(math.MaxUint32)), Known: r.bool(), OOM: r.bool()}
	e.Killer, e.Asked, e.NeverExeced = r.sent(), r.sent(), r.bool()
	e.UIDs = r.uids()
	e.PeakRSS, e.CPU = r.uint(math.MaxUint64), r.uint(math.MaxUint64)
	return e
}

func (r *reader) uids() event.UIDs {
	return event.UIDs{Real: r.uint32(), Effective: r.uint32(), Saved: r.uint32()}
}

func (r *reader) leaker() *Leaker {
	l := &Leaker{ID: r.id(), Comm: r.comm(), Filename: r.string(), Cmdline: r.string(),
		UID: uint32(r.uint(math.MaxUint32)), Cgroup: r.uint(math.MaxUint64), End: r.end(), StartKnown: r.bool()}
	if l.StartKnown {
		l.Start = r.origin()
	}
	l.Within = r.string()
	l.WithinSince = r.uint(math.MaxUint64)
	return l
}

func (r *reader) orphan() *Orphan {
	if !r.bool() {
		return nil
	}
	o := &Orphan{Since: r.uint(math.MaxUint64), Direct: r.bool(), Root: r.id(), Leaker: value(r, r.leakers),
		Observed: r.bool(), Lived: time.Duration(r.uint(math.MaxInt64)), Adopter: r.id(), AdopterComm: r.comm(),
		AdopterKind: event.Adopter(r.uint(uint64(event.AdopterSubreaper))), Confirmed: r.bool(), AtDeathKnown: r.bool()}
	if o.AtDeathKnown {
		o.AtDeath = r.origin()
	}
	o.Abandoned, o.Quiet, o.ByTie = r.bool(), r.bool(), r.bool()
	o.Launcher, o.LauncherLived = value(r, r.leakers), time.Duration(r.uint(math.MaxInt64))
	o.Tied = r.id()
	o.Verdict, o.Provisional = r.string(), r.bool()
	for range r.count() {
		o.Evidence = append(o.Evidence, r.string())
	}
	return o
}

// allFlags are those that an export may hold.
const allFlags = flagExeced | (flagExeced - 1)

// node reads one node and places it in the tree.
func (r *reader) node() {
	t := r.tree
	id := r.id()
	if r.err != nil {
		return
	}
	if id.PID <= 0 || id.Start < r.last.Start || id.Start == r.last.Start && id.PID <= r.last.PID {
		r.fail("%v after %v", id, r.last)
		return
	}
	r.last = id
	hostPID, spawner, kernel, spawned := r.int32(), r.ref(), r.ref(), r.id()
	uid, comm := uint32(r.uint(math.MaxUint32)), r.comm()
	words, origin, begun, cgroup := value(r, r.words), value(r, r.origins), value(r, r.origins), value(r, r.cgroups)
	execs, flags := uint32(r.uint(math.MaxUint32)), uint32(r.uint(uint64(allFlags)))
	line, lineage := uint8(r.uint(math.MaxUint8)), Lineage(r.uint(uint64(LineageObserved)))
	if r.err != nil || flags&derivedFlags != 0 {
		r.fail("flags %x of %v", flags, id)
		return
	}
	dead := flags&flagDead != 0
	if _, taken := t.live[id.PID]; taken && !dead {
		r.fail("two living processes with pid %d", id.PID)
		return
	}

	at := t.grow()
	*t.at(at) = node{
		pid: id.PID, start: id.Start, hostPID: hostPID, spawnPID: spawned.PID, spawnAt: spawned.Start,
		uid: uid, comm: comm, words: t.words.put(words), origin: t.origins.put(origin), begun: t.origins.put(begun), cgroup: t.cgroups.put(cgroup),
		execs: execs, flags: flags, line: line, lineage: lineage,
	}
	if dead {
		t.dead[id] = at
		r.death(at)
	} else {
		t.live[id.PID] = at
		r.life(at)
		t.setKernelParent(at, kernel)
	}
	t.setSpawner(at, spawner)
	if r.bool() {
		t.callers[at] = r.id()
	}
}

func (r *reader) death(at ref) {
	e := r.end()
	r.tree.ends[at] = end{time: e.Time, status: e.Status, known: e.Known, oom: e.OOM, killer: e.Killer, asked: e.Asked, neverExeced: e.NeverExeced,
		uids: e.UIDs, peakRSS: e.PeakRSS, cpu: e.CPU, orphan: r.orphan()}
}

func (r *reader) life(at ref) {
	o := r.orphan()
	if o == nil {
		return
	}
	if o.Direct != (o.Root == r.tree.at(at).id()) {
		r.fail("orphan %v of %v", r.tree.at(at).id(), o.Root)
		return
	}
	r.tree.orphans[at] = o
}

// checkLines looks whether the lines of the dead are as short as they are kept.
func (r *reader) checkLines() {
	t := r.tree
	lines := make([]uint8, t.count)
	for at := ref(1); at < t.count; at++ {
		if above := t.at(at).spawner.parent; above != 0 && t.at(above).is(flagDead) && t.at(above).held > 0 {
			if lines[at] = lines[above]; t.at(above).is(flagPinned) {
				continue
			}
			if lines[at]++; lines[at] > maxDeadLine {
				r.fail("a line of more than %d dead above %v", maxDeadLine, t.at(at).id())
				return
			}
		}
	}
}

// history takes the dead that no living descendant needs, oldest first.
func (r *reader) history() {
	t := r.tree
	n := r.count()
	refs := make([]ref, 0, min(n, len(t.dead)))
	listed := make(map[ref]struct{}, min(n, len(t.dead)))
	for range n {
		at := r.ref()
		_, again := listed[at]
		if r.err != nil || at == 0 || again || !t.at(at).is(flagDead) {
			r.fail("history")
			return
		}
		listed[at] = struct{}{}
		refs = append(refs, at)
	}
	for id, at := range t.dead {
		if _, ok := listed[at]; !ok && t.at(at).held == 0 {
			r.fail("%v is dead and needed by nobody", id)
			return
		}
	}
	r.retired = refs
}

// pending reads what waits for a process's death.
func (r *reader) pending() {
	t := r.tree
	living := func() ref {
		at := r.ref()
		if t.living(at) == 0 {
			r.fail("something waits for the death of the dead")
		}
		return at
	}
	for range r.count() {
		at := living()
		all := signals{first: r.sent(), last: r.sent()}
		for range r.uint(maxCaughtBySignal) {
			if s := r.sent(); s != nil {
				all.caught = append(all.caught, s)
			}
		}
		t.signals[at] = all
	}
	for range r.count() {
		t.victims[living()] = struct{}{}
	}
	for range r.count() {
		parent := r.id()
		if t.living(t.find(parent)) == 0 {
			r.fail("children of %v, which does not live", parent)
		}
		children := make(map[event.ID]event.Origin)
		for range r.count() {
			child := r.id()
			children[child] = r.origin()
		}
		t.atDeath[parent] = children
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package tracker keeps the process tree with the original lineage: who spawned
// whom, whatever the kernel forgets. It applies events and snapshots, reports what
// changed, and answers questions. It has no goroutine, no clock and no I/O of its
// own: one goroutine owns a Tree.
package tracker

import (
	"github.com/abot-trace/abot-trace/internal/event"
)

// Limits on what is remembered of the dead.
const (
	// DefaultHistory is how many dead processes without living descendants are
	// remembered.
	DefaultHistory = 4096
	// maxDeadLine is how many dead ancestors in a row a lineage keeps. A process that
	// forks and exits for ever would else leave an endless line.
	maxDeadLine = 64
)

// Lineage says where the knowledge of a process's spawner comes from.
type Lineage uint8

// The lineage sources.
const (
	LineageUnknown  Lineage = iota // older than the tracer: its kernel parent is shown, a guess
	LineageInferred                // from a snapshot after a gap
	LineageObserved                // from its fork
)

// String returns the name that the JSON contract uses.
func (l Lineage) String() string {
	switch l {
	case LineageObserved:
		return "observed"
	case LineageInferred:
		return "inferred"
	default:
		return "unknown"
	}
}

// A ref is a node's place in Tree.nodes; 0 is none.
type ref int32

// flags of a node.
const (
	flagDead uint16 = 1 << iota
	flagKthread
	flagSubreaper
	flagNSInit
	flagTruncated
	flagStub // known by reference only: neither its fork nor a snapshot showed it
	flagMarksKnown
	flagKeep
	flagLeash
	flagHistory // waits in the history to be forgotten
	flagElided  // dead ancestors between it and its spawner in the tree were forgotten
)

// A node is one process. It holds no pointers, so that the garbage collector does
// not look at the nodes, however many there are.
type node struct {
	start    uint64
	pid      int32
	hostPID  int32
	spawner  links // lineage: who made whom, for ever
	kernel   links // as getppid has it
	spawnPID int32 // the spawner's identity, also when its node is gone
	uid      uint32
	comm     event.Comm
	words    interned
	origin   interned
	cgroup   interned
	spawnAt  uint64
	flags    uint16
	lineage  Lineage
}

// links tie a node into one of its two trees.
type links struct {
	parent, first, next, prev ref
}

// words is what exec says of a program.
type words struct {
	filename string
	cmdline  string // NUL-separated
}

// end is what is known of a dead process.
type end struct {
	time    uint64 // CLOCK_BOOTTIME ns; 0 when its exit was not seen
	status  event.Status
	known   bool // status and time were seen
	oom     bool
	killer  *event.Signal
	peakRSS uint64
	cpu     uint64
	orphan  *Orphan // what it was when it died
}

// Tree is the process tree. Its methods belong to one goroutine.
type Tree struct {
	nodes []node
	free  []ref
	live  map[int32]ref    // by pid
	dead  map[event.ID]ref // remembered dead

	ends    map[ref]end
	orphans map[ref]*Orphan
	callers map[ref]event.ID          // under CLONE_PARENT
	signals map[ref][2]event.Signal   // first and last fatal signal to a living process
	atDeath map[event.ID]event.Origin // children's state at the death that comes next
	victims map[ref]struct{}          // chosen by the OOM killer

	words   table[words]
	origins table[event.Origin]
	cgroups table[uint64]

	history    []ref // FIFO ring of the dead without children
	historyCap int

	refused uint64
	bootAt  uint64 // what started before is older than the tracer
	synced  bool   // a first snapshot was merged
	unseen  uint64 // children that only the kernel's list knew
	changes []Change
}

// New returns an empty tree that remembers at most history dead processes without
// living descendants; 0 is DefaultHistory.
func New(history int) *Tree {
	if history <= 0 {
		history = DefaultHistory
	}
	return &Tree{
		nodes:      make([]node, 1),
		live:       make(map[int32]ref),
		dead:       make(map[event.ID]ref),
		ends:       make(map[ref]end),
		orphans:    make(map[ref]*Orphan),
		callers:    make(map[ref]event.ID),
		signals:    make(map[ref][2]event.Signal),
		atDeath:    make(map[event.ID]event.Origin),
		victims:    make(map[ref]struct{}),
		words:      newTable[words](),
		origins:    newTable[event.Origin](),
		cgroups:    newTable[uint64](),
		historyCap: history,
	}
}

// Living is how many living processes the tree holds.
func (t *Tree) Living() int { return len(t.live) }

// Remembered is how many dead processes it holds.
func (t *Tree) Remembered() int { return len(t.dead) }

// Orphans is how many living orphans it holds.
func (t *Tree) Orphans() int { return len(t.orphans) }

// Unseen is how many living children the kernel's own list showed at their parent's
// death that the tree did not know: each is a gap in the stream.
func (t *Tree) Unseen() uint64 { return t.unseen }

func (t *Tree) at(r ref) *node { return &t.nodes[r] }

func (n *node) id() event.ID { return event.ID{PID: n.pid, Start: n.start} }

func (n *node) is(flag uint16) bool { return n.flags&flag != 0 }

// find returns the node of id, living or dead; 0 when it is not known.
func (t *Tree) find(id event.ID) ref {
	if r, ok := t.live[id.PID]; ok && t.at(r).start == id.Start {
		return r
	}
	return t.dead[id]
}

// add returns a new living node without parents.
func (t *Tree) add(id event.ID) ref {
	var r ref
	if n := len(t.free); n > 0 {
		r, t.free = t.free[n-1], t.free[:n-1]
		*t.at(r) = node{}
	} else {
		r = ref(len(t.nodes))
		t.nodes = append(t.nodes, node{})
	}
	n := t.at(r)
	n.pid, n.start = id.PID, id.Start
	t.live[id.PID] = r
	return r
}

// which selects one of a node's two links.
type which func(*node) *links

func bySpawner(n *node) *links { return &n.spawner }
func byKernel(n *node) *links  { return &n.kernel }

// attach makes child the first child of parent; parent may be none.
func (t *Tree) attach(tree which, child, parent ref) {
	c := tree(t.at(child))
	c.parent, c.prev, c.next = parent, 0, 0
	if parent == 0 {
		return
	}
	p := tree(t.at(parent))
	c.next = p.first
	if p.first != 0 {
		tree(t.at(p.first)).prev = child
	}
	p.first = child
}

// detach takes child out of its parent's list.
func (t *Tree) detach(tree which, child ref) {
	c := tree(t.at(child))
	if c.parent == 0 {
		return
	}
	if c.prev != 0 {
		tree(t.at(c.prev)).next = c.next
	} else {
		tree(t.at(c.parent)).first = c.next
	}
	if c.next != 0 {
		tree(t.at(c.next)).prev = c.prev
	}
	c.parent, c.prev, c.next = 0, 0, 0
}

// move attaches child elsewhere.
func (t *Tree) move(tree which, child, parent ref) {
	if tree(t.at(child)).parent == parent {
		return
	}
	t.detach(tree, child)
	t.attach(tree, child, parent)
}

// forget drops a dead node that has no children, and then each dead ancestor that
// was remembered for its sake alone.
func (t *Tree) forget(r ref) {
	for r != 0 {
		n := t.at(r)
		if !n.is(flagDead) || n.spawner.first != 0 || n.is(flagHistory) {
			return
		}
		parent := n.spawner.parent
		t.detach(bySpawner, r)
		t.release(r)
		r = parent
	}
}

// release frees a dead node that is out of both trees.
func (t *Tree) release(r ref) {
	n := t.at(r)
	delete(t.dead, n.id())
	delete(t.ends, r)
	delete(t.callers, r)
	t.words.drop(n.words)
	t.origins.drop(n.origin)
	t.cgroups.drop(n.cgroup)
	*n = node{}
	t.free = append(t.free, r)
}

// retire takes a dead node without children into the bounded history.
func (t *Tree) retire(r ref) {
	t.at(r).flags |= flagHistory
	t.history = append(t.history, r)
	if len(t.history) <= t.historyCap {
		return
	}
	oldest := t.history[0]
	t.history = t.history[1:]
	t.at(oldest).flags &^= flagHistory
	t.forget(oldest)
}

// shorten forgets the dead ancestor that makes the line of dead ones above r too
// long; its children go to its own spawner.
func (t *Tree) shorten(r ref) {
	at := t.at(r).spawner.parent
	for range maxDeadLine {
		if at == 0 || !t.at(at).is(flagDead) {
			return
		}
		at = t.at(at).spawner.parent
	}
	if at == 0 || !t.at(at).is(flagDead) || t.at(at).is(flagHistory) {
		return
	}
	above := t.at(at).spawner.parent
	for child := t.at(at).spawner.first; child != 0; child = t.at(at).spawner.first {
		t.move(bySpawner, child, above)
		t.at(child).flags |= flagElided
	}
	t.detach(bySpawner, at)
	t.release(at)
}

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
	// Beyond crowd remembered dead, lines are kept no longer than crowdedLine: living
	// processes that each drag a long line along cost no more memory than this.
	crowd       = 1 << 16
	crowdedLine = 4
)

// chunkSize is how many nodes are allocated at once: 112 KB, whole pages of the heap.
const chunkSize = 1024

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

// A ref is a node's place in Tree.chunks; 0 is none.
type ref int32

// flags of a node.
const (
	flagDead uint32 = 1 << iota
	flagKthread
	flagSubreaper
	flagNSInit
	flagTruncated
	flagStub // known by reference only: neither its fork nor a snapshot showed it
	flagMarksKnown
	flagKeep
	flagLeash
	flagHistory // waits in the history to be forgotten
	flagMoved   // at its fork into other control groups than its caller's
	flagElided  // dead ancestors between it and its spawner in the tree were forgotten
	flagUnread  // what it runs was neither seen at the exec nor read since
	flagMissed  // the exec of what it runs was not seen, although the tracer was there
	flagPinned  // a lease's holder: never forgotten while it has living descendants
	flagLeft    // made by CLONE_PARENT as a child of who had adopted its spawner
	flagExeced  // it executed a program since its own fork
)

// A node is one process. It holds no pointers, so that the garbage collector does
// not look at the nodes, however many there are. The order leaves no gaps.
type node struct {
	start    uint64
	spawnAt  uint64 // the spawner's start
	pid      int32
	hostPID  int32
	spawner  links // lineage: who made whom, for ever
	kernel   links // as getppid has it
	spawnPID int32 // with spawnAt the spawner's identity, also when its node is gone
	uid      uint32
	comm     event.Comm
	words    interned
	origin   interned // at its fork
	begun    interned // at its first exec since
	cgroup   interned
	held     int32  // children in the lineage that live or have living descendants
	execs    uint32 // which of its programs it runs: the kernel's self_exec_id
	flags    uint32
	line     uint8 // dead: how many dead follow each other from here down, at most
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
	time   uint64 // CLOCK_BOOTTIME ns; 0 when its exit was not seen
	status event.Status
	known  bool // status and time were seen
	oom    bool
	killer *Sent
	asked  *Sent
	// neverExeced says that it ran what it was forked with until its end.
	neverExeced bool
	peakRSS     uint64
	cpu         uint64
	uids        event.UIDs
	orphan      *Orphan // what it was when it died
	told        int     // bytes that orphan takes by the choice of processes
}

// Tree is the process tree. Its methods belong to one goroutine.
type Tree struct {
	// chunks hold the nodes: a slice of them would be copied as it grows, and keep room
	// to spare by the size of the whole.
	chunks []*[chunkSize]node
	count  ref // nodes ever made, with the one that stands for none
	free   []ref
	live   map[int32]ref    // by pid
	dead   map[event.ID]ref // remembered dead
	// behind holds who lives as far as the records tell although a snapshot, which
	// runs ahead of them, showed the pid with a younger owner. Empty between merges.
	behind map[event.ID]ref

	ends    map[ref]end
	orphans map[ref]*Orphan
	callers map[ref]event.ID // under CLONE_PARENT
	signals map[ref]signals
	atDeath map[event.ID]map[event.ID]event.Origin // by dying parent: its children's state
	victims map[ref]struct{}                       // chosen by the OOM killer

	lastSender ref           // of a signal, found by its host pid; to be checked before use
	lastSent   *Sent         // whose sender was described
	self       int32         // pid of the tracer's own process; 0 is not said
	ties       map[ref][]ref // orphans by the living process that they are tied to

	words   table[words]
	wordy   []wordy // the dead that have words, the first to die first; some are forgotten
	told    int     // sum of the ends'
	limits  limits
	origins table[event.Origin]
	cgroups table[uint64]

	history    []ref // the dead that no living descendant needs, oldest first
	historyCap int
	justDied   []ref // since the last call of settle
	path       []ref // scratch of shorten

	refused uint64
	bootAt  uint64    // what started before is older than the tracer
	synced  bool      // a first snapshot was merged
	merging bool      // between Begin and End
	redoing *Snapshot // begun by Redo, and not ended
	unseen  uint64    // children that only the kernel's list knew
	changes []Change

	recorder  Recorder // nil where nothing is recorded
	hide      func(string) string
	inputData []byte // scratch of input
}

// New returns an empty tree that remembers at most history dead processes without
// living descendants; 0 is DefaultHistory.
func New(history int) *Tree {
	if history <= 0 {
		history = DefaultHistory
	}
	t := &Tree{
		live:       make(map[int32]ref),
		dead:       make(map[event.ID]ref),
		behind:     make(map[event.ID]ref),
		ends:       make(map[ref]end),
		orphans:    make(map[ref]*Orphan),
		callers:    make(map[ref]event.ID),
		signals:    make(map[ref]signals),
		atDeath:    make(map[event.ID]map[event.ID]event.Origin),
		victims:    make(map[ref]struct{}),
		ties:       make(map[ref][]ref),
		words:      newTable(words.size),
		limits:     limits{wordBytes, crowdedWordBytes, toldBytes, exportBytes},
		origins:    newTable[event.Origin](nil),
		cgroups:    newTable[uint64](nil),
		historyCap: history,
	}
	t.grow()
	return t
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

// at returns the node of r, which stays where it is until it is released.
func (t *Tree) at(r ref) *node { return &t.chunks[uint32(r)/chunkSize][uint32(r)%chunkSize] }

func (n *node) id() event.ID { return event.ID{PID: n.pid, Start: n.start} }

func (n *node) is(flag uint32) bool { return n.flags&flag != 0 }

// find returns the node of id, living or dead; 0 when it is not known.
func (t *Tree) find(id event.ID) ref {
	if r, ok := t.live[id.PID]; ok && t.at(r).start == id.Start {
		return r
	}
	if r, ok := t.dead[id]; ok {
		return r
	}
	return t.behind[id]
}

// living returns r unless it is dead, then 0.
func (t *Tree) living(r ref) ref {
	if r != 0 && t.at(r).is(flagDead) {
		return 0
	}
	return r
}

// makeRoom prepares for a living process with that identity, and reports whether there
// can be one. Whoever had its pid before is dead: its exit was lost. A pid with a
// younger owner belongs to a process that is dead by now; only while a snapshot is
// merged may records lie behind it and still speak of the elder.
func (t *Tree) makeRoom(id event.ID) bool {
	holder, ok := t.live[id.PID]
	if !ok {
		return true
	}
	if t.at(holder).start > id.Start {
		return t.merging
	}
	t.die(holder, end{}, event.Exit{})
	return true
}

// grow returns a node that was never used.
func (t *Tree) grow() ref {
	if t.count%chunkSize == 0 {
		t.chunks = append(t.chunks, new([chunkSize]node))
	}
	t.count++
	return t.count - 1
}

// add returns a new living node without parents, for which makeRoom has made room.
func (t *Tree) add(id event.ID) ref {
	var r ref
	if n := len(t.free); n > 0 {
		r, t.free = t.free[n-1], t.free[:n-1]
		*t.at(r) = node{}
	} else {
		r = t.grow()
	}
	n := t.at(r)
	n.pid, n.start = id.PID, id.Start
	if _, younger := t.live[id.PID]; younger {
		t.behind[id] = r
	} else {
		t.live[id.PID] = r
	}
	return r
}

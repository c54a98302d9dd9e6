// SPDX-License-Identifier: Apache-2.0

// Package policy decides which orphaned trees a set of rules ends or reports, and
// why. It is pure: a view of the process tree, the host's figures and a clock value
// go in, decisions with reasons come out. The daemon, cleanup, explain and replay
// are this same code; what signals processes is behind it.
//
//	orphaning, sample, timer -> Engine -> Decision -> Budget -> enforcement
//	                              ^ View, Host, now
//
// Clock values are CLOCK_BOOTTIME nanoseconds, so that suspend counts as age. An
// Engine and a Budget belong to one goroutine.
package policy

import (
	"math"

	"github.com/abot-trace/abot-trace/internal/event"
)

// View is what the engine asks of a process tree. A call must not change the tree,
// and the tree must not change during a call of the engine.
type View interface {
	// Orphans calls yield for every living orphan, direct or stranded, in any
	// order, until yield returns false.
	Orphans(yield func(event.ID) bool)
	// Process overwrites *p with what is known of a living or remembered process.
	// It returns false for one that was forgotten or never seen.
	Process(id event.ID, p *Process) bool
	// Children calls yield for every process that id spawned and that lives, or is
	// remembered because a descendant of it lives.
	Children(id event.ID, yield func(event.ID) bool)
	// TreeMemory returns RSS plus swap in bytes of id and its living descendants,
	// false where that was not sampled.
	TreeMemory(id event.ID) (bytes uint64, known bool)
	// Leak returns what is known of a leak, false where there is none of that id.
	Leak(id string) (Leak, bool)
}

// Leak is what rules look at of a leak as a whole.
type Leak struct {
	Processes  int    // living ones
	Bytes      uint64 // RSS plus swap of those that were sampled
	BytesKnown bool   // some were
	SettlesAt  uint64 // until when pending verdicts on its members are waited for; 0 where none is
}

// Process is what rules and protection look at. Strings come from the process and
// are hostile.
type Process struct {
	ID      event.ID
	Spawner event.ID // who spawned it; zero where not known
	// Observed says that the edge to Spawner was seen as an event. Only such edges
	// carry a kill.
	Observed bool
	Dead     bool

	Comm    string
	Exe     string
	Cmdline string // the arguments joined by single spaces
	// UID is its real user id, and User that one's name, empty where it has none. Whether they
	// are true now, and what its other ids are, AskUIDs tells.
	UID    uint32
	User   string
	Unit   string // systemd unit of its cgroup
	Cgroup string
	Container
	Keep bool // ABOT_TRACE_KEEP=1 in its environment
	// MarksKnown says that the marks in its environment, of which Keep is one, are known.
	MarksKnown bool
	// Unread says that what it runs was neither seen at its exec nor read since.
	Unread bool

	Threads     int
	RSS, Swap   uint64 // bytes
	MemoryKnown bool   // RSS and Swap were sampled
	CPUPercent  float64
	CPUKnown    bool

	// Orphan says that its spawner, or for a stranded one an ancestor, is dead.
	Orphan  bool
	Verdict string // of an orphan: leaked, deliberate, unknown
	// Since is the instant of the orphaning, or the earliest instant at which it is
	// known to have been an orphan; 0 where not even that is known.
	Since uint64
	// Leak is the id of the leak that it belongs to, empty for none.
	Leak string
	// LeakerCmdline is the leaker's arguments joined by single spaces; empty where not known.
	LeakerCmdline string
	// Abandoned says that nobody is at the other end of its standard input, output or error.
	Abandoned bool
	// Leaker are the user ids with which the leaker of an orphan died; nil where that was not
	// seen.
	Leaker *event.UIDs

	// Held is what it was last read to hold, nil where it was not; AskHeld, unless nil, has it
	// read, and the process looked at again.
	Held    *Held
	AskHeld func(event.ID)

	// What protects it.
	Kthread bool
	Ours    Relation
	MainPID bool // main process of an active unit
	// OOMScoreAdj is /proc/PID/oom_score_adj where it was read, else 0.
	OOMScoreAdj int

	// Complete, unless nil, finds out Exe, Ours and OOMScoreAdj, which take a look at the
	// process: it is called before they are used, and once.
	Complete func(*Process)
	// AskUIDs, unless nil, finds out UID, User, UIDs and UIDsKnown as they are now: it is
	// called before they are used, and once. A user's process can become another's at any
	// time.
	AskUIDs func(*Process)
	// UIDs are all its user ids, if UIDsKnown.
	UIDs      event.UIDs
	UIDsKnown bool
	// UserOf names a user id, empty where it has no name; nil knows none.
	UserOf func(uid uint32) string
	// Exempt, unless nil, says why the rule of that name does not end it, whatever it matches,
	// or nothing.
	Exempt func(rule string) string
	// ReadMarks, unless nil, is called where the process is spared only because its marks or
	// its program are not known: they are to be read, and it is to be looked at again.
	ReadMarks func(event.ID)
}

// Container is the container that a process is in. Its texts are as whoever started it chose
// them.
type Container struct {
	ContainerID   string // empty where it is in none
	ContainerName string
	Image         string
	Pod           string // namespace/name
	// RootsContainer says that root alone could have made the container's control group:
	// else its name makes nobody a container.
	RootsContainer bool
	// ContainerPending says that all but the id is being found out.
	ContainerPending bool
}

// KnowsUIDs fills in the user ids, and reports whether they are known.
func (p *Process) KnowsUIDs() bool {
	if ask := p.AskUIDs; ask != nil {
		p.AskUIDs = nil
		ask(p)
	}
	return p.UIDsKnown
}

// complete fills in what the view has left until somebody asks.
func (p *Process) complete() {
	if fill := p.Complete; fill != nil {
		p.Complete = nil
		fill(p)
	}
}

// Relation is how a process is related to the running program itself.
type Relation uint8

// The relations.
const (
	NotOurs Relation = iota
	Ourselves
	OurAncestor
	OurDescendant
)

// Host holds figures of the whole machine; NaN stands for not known. A rule whose
// expression uses an unknown figure does not hold.
type Host struct {
	MemoryPercent        float64 `expr:"memory_percent"`         // used: 1 - MemAvailable / MemTotal
	MemoryAvailableBytes float64 `expr:"memory_available_bytes"` // MemAvailable
	MemoryTotalBytes     float64 `expr:"memory_total_bytes"`
	SwapPercent          float64 `expr:"swap_percent"`
	CPUPercent           float64 `expr:"cpu_percent"` // all CPUs together, 0 to 100
	CPUs                 float64 `expr:"cpus"`
	Load1                float64 `expr:"load1"`
	Load5                float64 `expr:"load5"`
	Load15               float64 `expr:"load15"`
	MemoryPressure       float64 `expr:"memory_pressure"` // PSI memory, some, avg10, percent
	CPUPressure          float64 `expr:"cpu_pressure"`
	IOPressure           float64 `expr:"io_pressure"`
}

// UnknownHost returns a Host of which nothing is known yet.
func UnknownHost() Host {
	nan := math.NaN()
	return Host{nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan}
}

// maxDepth bounds a walk up the lineage, against a view with a cycle in it.
const maxDepth = 4096

// ancestors calls yield with each ancestor of p by lineage, nearest first, dead ones
// included, until yield returns false. The *Process is reused.
func ancestors(view View, p *Process, yield func(*Process) bool) {
	var a Process
	id := p.Spawner
	for range maxDepth {
		if id.IsZero() || !view.Process(id, &a) {
			return
		}
		if !yield(&a) {
			return
		}
		id = a.Spawner
	}
}

// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// How long changes are gathered before they are told.
const (
	// gatherOpening makes one message of the orphans of one death, however many.
	gatherOpening = uint64(time.Second)
	// gatherMembers is the least time between two tellings of changed members.
	gatherMembers = uint64(10 * time.Second)
	// gatherEnd is how long a leak is empty before it has ended: a child that its last
	// member forked may be told after the member's exit.
	gatherEnd = uint64(50 * time.Millisecond)
)

// What is remembered.
const (
	// DefaultEnded is how many ended leaks are remembered.
	DefaultEnded = 1024
	// deadMembers is how many members that died last are known for what they were.
	deadMembers = 1024
)

// ChangeKind says what a Change tells.
type ChangeKind uint8

// The kinds of changes.
const (
	Opened ChangeKind = iota
	MembersChanged
	VerdictChanged
	ThresholdPassed
	Ended
)

// String returns the name that the JSON contract uses.
func (k ChangeKind) String() string {
	return [...]string{"opened", "members", "verdict", "threshold", "ended"}[k]
}

// A Change is something to tell of a leak.
type Change struct {
	Kind ChangeKind
	Leak *Leak
	Time uint64
	// Threshold names what was passed: "age" or "memory".
	Threshold string
	// Previous is the verdict before, where that changed.
	Previous Verdict
}

// Thresholds are the figures whose passing is told once for each leak; 0 is off.
type Thresholds struct {
	Age    time.Duration
	Memory uint64 // bytes, RSS and swap of all members
}

type threshold uint8

const (
	passedAge threshold = 1 << iota
	passedMemory
)

// A Set is the leaks of one boot of one machine. Make it with New.
type Set struct {
	boot       string
	thresholds Thresholds

	open    map[event.ID]*Leak // by leaker
	members map[event.ID]*member
	byID    map[string]*Leak // open and remembered ones
	ended   []*Leak          // oldest first
	cap     int
	// wasMember tells to which leak processes that died lately belonged: what they left
	// is told after their exit.
	wasMember map[event.ID]*Leak
	deadQueue []event.ID
	queue     queue   // of open leaks by the time of what is to be told next
	touched   []*Leak // scratch of Sample
	programs  programs
}

// New returns an empty set for one boot of one machine, which boot names. ended is how
// many ended leaks are remembered; 0 is DefaultEnded.
func New(boot string, ended int) *Set {
	if ended <= 0 {
		ended = DefaultEnded
	}
	return &Set{
		boot: boot, cap: ended,
		open:      make(map[event.ID]*Leak),
		members:   make(map[event.ID]*member),
		byID:      make(map[string]*Leak),
		wasMember: make(map[event.ID]*Leak),
	}
}

// SetThresholds replaces what is told of age and memory.
func (s *Set) SetThresholds(t Thresholds) {
	s.thresholds = t
	for _, l := range s.open {
		s.schedule(l)
	}
}

// An Orphan is what was judged of an orphan.
type Orphan struct {
	ID     event.ID
	Leaker event.ID
	Since  uint64 // the leaker's death
	// Direct is false where it is stranded.
	Direct  bool
	Verdict Verdict
	// Provisional says that the verdict may still become milder. While no verdict on
	// what a death left is final, it opened no leak.
	Provisional bool
	// Descendants are its living descendants that were not announced as orphans
	// themselves: what it forked since it became one.
	Descendants []event.ID
	// Describe returns the description of the leaker. It is called at most once, when
	// the leak is opened or somebody asks before what it is a case of.
	Describe func() Leaker
}

// Judge takes a verdict on an orphan, the first or a later one. A deliberate one leaves
// its leak, with what it forked since; any other joins: the leak of its leaker, or the
// one that its leaker was a member of. One that died as a member is past judging.
func (s *Set) Judge(o Orphan, now uint64) {
	m := s.members[o.ID]
	if o.Verdict == Deliberate && !o.Provisional {
		if m != nil {
			s.leave(m, now)
		}
		return
	}
	if m == nil {
		if s.wasMember[o.ID] != nil {
			return
		}
		l := s.leakOf(&o)
		m = s.join(l, o.ID, nil, o.Since)
	}
	m.setRoot(nil)
	for _, id := range o.Descendants {
		if below := s.members[id]; below == nil {
			s.join(m.leak, id, m, max(o.Since, id.Start))
		} else if below.leak == m.leak && below != m {
			below.setRoot(m)
		}
	}
	m.direct = o.Direct
	m.settle(o.Verdict, o.Provisional)
	for _, other := range m.below {
		other.settle(o.Verdict, o.Provisional)
	}
	m.leak.weigh()
	s.schedule(m.leak)
}

// leakOf is the leak that the orphans of a leaker belong to.
func (s *Set) leakOf(o *Orphan) *Leak {
	if l := s.open[o.Leaker]; l != nil {
		return l
	}
	if l := s.wasMember[o.Leaker]; l != nil && l.Open() {
		return l
	}
	l := &Leak{ID: MakeID(s.boot, o.Leaker), OpenedAt: o.Since, Verdict: Unknown,
		describe: o.Describe, members: make(map[event.ID]*member, 1)}
	l.Leaker.ID = o.Leaker
	s.open[o.Leaker], s.byID[l.ID] = l, l
	return l
}

// join makes a process a member, with a provisional verdict.
func (s *Set) join(l *Leak, id event.ID, root *member, at uint64) *member {
	m := &member{leak: l, id: id, joined: at, verdict: Unknown, pending: true}
	s.members[id], l.members[id] = m, m
	m.setRoot(root)
	l.Now++
	l.Total++
	l.Peak = max(l.Peak, l.Now)
	l.emptySince, l.changed = 0, true
	return m
}

// setRoot makes root the announced orphan whose verdict counts for m; nil makes m one
// itself.
func (m *member) setRoot(root *member) {
	if m.root != nil {
		delete(m.root.below, m.id)
	}
	if m.root = root; root == nil {
		return
	}
	if root.below == nil {
		root.below = make(map[event.ID]*member)
	}
	root.below[m.id] = m
}

// settle notes the verdict on one member.
func (m *member) settle(v Verdict, provisional bool) {
	m.count(-1)
	m.verdict, m.pending = max(v, Unknown), provisional
	m.count(1)
	m.leak.judged = m.leak.judged || !provisional
}

func (m *member) count(n int) {
	if m.pending {
		return
	}
	m.leak.settled += n
	if m.verdict == Leaked {
		m.leak.leaked += n
	}
}

// weigh makes the leak's verdict from its members' final ones. What was held of the last
// members stays.
func (l *Leak) weigh() {
	switch {
	case l.leaked > 0:
		l.Verdict = Leaked
	case l.settled > 0:
		l.Verdict = Unknown
	}
}

// leave takes a process that proved deliberate out of its leak, with what it forked.
func (s *Set) leave(m *member, now uint64) {
	m.setRoot(nil)
	l := m.leak
	for _, other := range m.below {
		s.remove(other, now)
		l.Total--
	}
	s.remove(m, now)
	l.Total--
	l.weigh()
	s.schedule(l)
}

func (s *Set) remove(m *member, now uint64) {
	l := m.leak
	m.hold(now)
	m.count(-1)
	delete(l.members, m.id)
	delete(s.members, m.id)
	if m.root != nil {
		delete(m.root.below, m.id) // those below m stay below it, though it is gone
	}
	l.Now--
	l.RSS, l.Swap = l.RSS-m.rss, l.Swap-m.swap
	l.changed = true
	if l.Now == 0 {
		l.emptySince = max(now, 1)
	}
}

// hold counts its memory from the last sample to now.
func (m *member) hold(now uint64) {
	if m.sampled != 0 && now > m.sampled {
		m.leak.bytesNS += float64(m.rss+m.swap) * float64(now-m.sampled)
		m.sampled = now
	}
}

// Fork takes a new process: the child of a member is one.
func (s *Set) Fork(parent, child event.ID, now uint64) {
	p := s.members[parent]
	if p == nil || s.members[child] != nil {
		return
	}
	root := p
	if p.root != nil {
		root = p.root
	}
	m := s.join(p.leak, child, root, now)
	m.cpuKnown = true
	m.settle(p.verdict, p.pending)
	s.schedule(p.leak)
}

// An Exit is how a process ended.
type Exit struct {
	ID     event.ID
	Time   uint64
	Ending Ending
	// CPU is the total processor time of the process in ns; 0 where it is not known.
	CPU uint64
}

// Exit takes the end of a process.
func (s *Set) Exit(e Exit) {
	m := s.members[e.ID]
	if m == nil {
		return
	}
	l := m.leak
	if m.cpuKnown {
		l.cpuNS += max(e.CPU, m.cpu, m.cpuFrom) - m.cpuFrom
	}
	if m.pending {
		// Gone before anyone could say what it was.
		l.Total--
	} else {
		l.EndedBy = l.EndedBy.with(e.Ending)
	}
	s.remove(m, e.Time)
	l.weigh()
	s.schedule(l)
	s.wasMember[e.ID] = l
	if s.deadQueue = append(s.deadQueue, e.ID); len(s.deadQueue) > deadMembers {
		delete(s.wasMember, s.deadQueue[0])
		s.deadQueue = s.deadQueue[1:]
	}
}

func (e Ending) with(other Ending) Ending {
	switch {
	case other == Unseen || other == NotEnded || e == other:
		return e
	case e == NotEnded:
		return other
	}
	return Mixed
}

// Kill notes that a kill of ours begins on these processes. It returns the leaks that
// they belong to; whoever is told of the kill is told of their opening first.
func (s *Set) Kill(killID, rule string, ids []event.ID) (leaks []*Leak) {
	for _, id := range ids {
		m := s.members[id]
		if m == nil || slices.Contains(leaks, m.leak) {
			continue
		}
		leaks = append(leaks, m.leak)
		m.leak.hasten = true
		if !slices.Contains(m.leak.KillIDs, killID) {
			m.leak.KillIDs = append(m.leak.KillIDs, killID)
		}
		if !slices.Contains(m.leak.Rules, rule) {
			m.leak.Rules = append(m.leak.Rules, rule)
		}
		s.schedule(m.leak)
	}
	return leaks
}

// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/fingerprint"
)

// A Usage is what one process uses at a sample.
type Usage struct {
	ID        event.ID
	RSS, Swap uint64 // bytes
	CPU       uint64 // ns, total
}

// Sample takes what members use now. Processes that are no members are passed over.
func (s *Set) Sample(usage []Usage, now uint64) {
	touched := s.touched[:0]
	for _, u := range usage {
		m := s.members[u.ID]
		if m == nil {
			continue
		}
		l := m.leak
		if !l.touched {
			l.touched, touched = true, append(touched, l)
		}
		l.RSS, l.Swap = l.RSS-m.rss+u.RSS, l.Swap-m.swap+u.Swap
		m.sample(u, now)
	}
	for _, l := range touched {
		l.touched = false
		l.PeakBytes = max(l.PeakBytes, l.RSS+l.Swap)
		s.schedule(l)
	}
	clear(touched)
	s.touched = touched[:0]
}

// sample counts the memory since the sample before by the mean of both; before the first
// sample by the first.
func (m *member) sample(u Usage, now uint64) {
	from, before := m.sampled, m.rss+m.swap
	if from == 0 {
		from, before = m.joined, u.RSS+u.Swap
	}
	if now > from {
		m.leak.bytesNS += (float64(before) + float64(u.RSS+u.Swap)) / 2 * float64(now-from)
	}
	if !m.cpuKnown {
		m.cpuFrom, m.cpuKnown = u.CPU, true
	}
	m.rss, m.swap, m.cpu, m.sampled = u.RSS, u.Swap, u.CPU, max(now, 1)
}

// Due returns what is to be told by now, in the order in which it became due. It is to
// be called after each batch of events, and again at the time that Next returns.
func (s *Set) Due(now uint64) (changes []Change) {
	for at := s.Next(); at != 0 && at <= now; at = s.Next() {
		l := heap.Pop(&s.queue).(entry).leak
		l.dueAt = 0
		changes = append(changes, s.tell(l, now)...)
		s.schedule(l)
	}
	return changes
}

// Next is when Due has something to tell if nothing else happens; 0 is never.
func (s *Set) Next() uint64 {
	for len(s.queue) > 0 {
		if top := s.queue[0]; top.at == top.leak.dueAt {
			return top.at
		}
		heap.Pop(&s.queue)
	}
	return 0
}

// schedule puts l where it belongs in the queue. An entry that is no longer right stays
// until it comes up.
func (s *Set) schedule(l *Leak) {
	at := l.nextAt(s.thresholds)
	if at == l.dueAt {
		return
	}
	if l.dueAt = at; at != 0 {
		heap.Push(&s.queue, entry{at, l})
	}
}

// An entry is a leak's place in the queue.
type entry struct {
	at   uint64
	leak *Leak
}

type queue []entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(entry)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

// atOnce is a time that is always due.
const atOnce = 1

// nextAt is when something is to be told of l; 0 is never.
func (l *Leak) nextAt(t Thresholds) uint64 {
	switch {
	case !l.Open():
		return 0
	case l.Now == 0:
		return l.emptySince + gatherEnd
	case !l.opened && l.hasten:
		return atOnce
	case !l.opened && !l.judged:
		return 0
	case !l.opened:
		return l.OpenedAt + gatherOpening
	case l.Verdict != l.told, l.passesMemory(t):
		return atOnce
	}
	next := uint64(0)
	if l.changed {
		next = l.toldAt + gatherMembers
	}
	if t.Age > 0 && l.passed&passedAge == 0 {
		if at := l.OpenedAt + uint64(t.Age); next == 0 || at < next {
			next = at
		}
	}
	return next
}

func (l *Leak) passesMemory(t Thresholds) bool {
	return t.Memory > 0 && l.passed&passedMemory == 0 && l.RSS+l.Swap > t.Memory
}

// tell returns what is to be told of l, and notes that it was.
func (s *Set) tell(l *Leak, now uint64) (changes []Change) {
	if !l.opened {
		if l.Now == 0 && !l.judged || l.Total == 0 {
			// All that was pending proved deliberate, or was gone before it was judged.
			delete(s.open, l.Leaker.ID)
			delete(s.byID, l.ID)
			l.EndedAt = now
			return nil
		}
		changes = append(changes, s.tellOpened(l, now))
	}
	if l.Verdict != l.told {
		changes = append(changes, Change{Kind: VerdictChanged, Leak: l, Time: now, Previous: l.told})
		l.told = l.Verdict
	}
	if l.passesMemory(s.thresholds) {
		l.passed |= passedMemory
		changes = append(changes, Change{Kind: ThresholdPassed, Leak: l, Time: now, Threshold: "memory"})
	}
	if l.Now == 0 {
		return append(changes, s.end(l))
	}
	if age := s.thresholds.Age; age > 0 && l.passed&passedAge == 0 && now >= l.OpenedAt+uint64(age) {
		l.passed |= passedAge
		changes = append(changes, Change{Kind: ThresholdPassed, Leak: l, Time: now, Threshold: "age"})
	}
	if l.changed && now >= l.toldAt+gatherMembers {
		l.changed, l.toldAt = false, now
		changes = append(changes, Change{Kind: MembersChanged, Leak: l, Time: now})
	}
	return changes
}

func (s *Set) tellOpened(l *Leak, now uint64) Change {
	l.opened, l.changed = true, false
	l.toldAt, l.told = now, l.Verdict
	l.describeLeaker()
	s.programs.of(l).Opened++
	return Change{Kind: Opened, Leak: l, Time: now}
}

// describeLeaker describes the leaker, once.
func (l *Leak) describeLeaker() {
	if l.describe != nil {
		id := l.Leaker.ID
		l.Leaker = l.describe()
		l.Leaker.ID, l.describe = id, nil
	}
}

func (s *Set) end(l *Leak) Change {
	l.EndedAt = l.emptySince
	s.countEnded(l)
	l.members = nil
	delete(s.open, l.Leaker.ID)
	if s.ended = append(s.ended, l); len(s.ended) > s.cap {
		delete(s.byID, s.ended[0].ID)
		s.ended = slices.Delete(s.ended, 0, 1)
	}
	return Change{Kind: Ended, Leak: l, Time: l.EndedAt}
}

// Get returns the leak with that id, open or remembered; nil when there is none, or nobody
// was told of it yet.
func (s *Set) Get(id string) *Leak {
	if l := s.byID[id]; l != nil && l.opened {
		return l
	}
	return nil
}

// ByID is Get for leaks that nobody was told of yet, too.
func (s *Set) ByID(id string) *Leak { return s.byID[id] }

// Of returns the open leak that a process belongs to; nil when it belongs to none, or
// nobody was told of it yet.
func (s *Set) Of(id event.ID) *Leak {
	if m := s.members[id]; m != nil && m.leak.opened {
		return m.leak
	}
	return nil
}

// IDOf is the id of the leak that a living process belongs to; empty where it belongs to
// none.
func (s *Set) IDOf(id event.ID) string {
	if m := s.members[id]; m != nil {
		return m.leak.ID
	}
	return ""
}

// Case is what the leak that a living process belongs to is a case of, and when that was
// opened, whether anyone was told of it or not; zero where it belongs to none.
func (s *Set) Case(id event.ID) (c fingerprint.Fingerprint, opened uint64) {
	m := s.members[id]
	if m == nil {
		return c, 0
	}
	m.leak.describeLeaker()
	return m.leak.Leaker.Fingerprint, m.leak.OpenedAt
}

// MemberIDs lists the living members of all leaks, in no order.
func (s *Set) MemberIDs() []event.ID {
	ids := make([]event.ID, 0, len(s.members))
	for id := range s.members {
		ids = append(ids, id)
	}
	return ids
}

// Inside reports whether id is, or lately was, a member of a leak that is open: a death
// of such a process opens no other.
func (s *Set) Inside(id event.ID) bool {
	if s.members[id] != nil {
		return true
	}
	l := s.wasMember[id]
	return l != nil && l.Open()
}

// NameOf is the name of a fingerprint that a leak has which somebody was told of; empty
// where none has it.
func (s *Set) NameOf(id string) string {
	for _, l := range s.byID {
		if l.Leaker.Fingerprint.ID == id {
			return l.Leaker.Fingerprint.Name
		}
	}
	return ""
}

// Open returns the open leaks that somebody was told of, oldest first.
func (s *Set) Open() []*Leak {
	list := make([]*Leak, 0, len(s.open))
	for _, l := range s.open {
		if l.opened {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b *Leak) int {
		return cmp.Or(cmp.Compare(a.OpenedAt, b.OpenedAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// LeftBy returns the leaks that processes with the pid left, the remembered ones first: of
// the one that began at start, unless that is 0. An open one counts as soon as a verdict on
// one of its members is final, whether or not somebody was told of it.
func (s *Set) LeftBy(pid int32, start uint64) (leaks []*Leak) {
	fits := func(l *Leak) bool {
		return l.Leaker.ID.PID == pid && (start == 0 || l.Leaker.ID.Start == start)
	}
	for _, l := range s.ended {
		if fits(l) {
			leaks = append(leaks, l)
		}
	}
	for _, l := range s.open {
		if fits(l) && (l.opened || l.judged) {
			leaks = append(leaks, l)
		}
	}
	return leaks
}

// Ended returns the ended leaks that are remembered, oldest first. The slice is the
// Set's own.
func (s *Set) Ended() []*Leak { return s.ended }

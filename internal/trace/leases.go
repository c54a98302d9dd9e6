// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// A Lease is a process's declaration that its descendants are not to outlive it.
type Lease struct {
	Holder event.ID
	UID    uint32 // whose processes it reaches: those that this user could signal
	Grace  time.Duration
	Marked bool // declared by a mark in the environment
	// HolderUIDs are those that the holder died with, where ExitSeen. Only whom both they
	// and UID could signal is reached.
	HolderUIDs event.UIDs
	ExitSeen   bool
}

// Reaches reports whether the holder's user could have signalled a process with these ids.
func (l *Lease) Reaches(ids event.UIDs) bool {
	return event.UIDs{Real: l.UID, Effective: l.UID, Saved: l.UID}.CouldSignal(ids) &&
		(!l.ExitSeen || l.HolderUIDs.CouldSignal(ids))
}

// DefaultGrace is the grace of a lease that names none.
const DefaultGrace = 10 * time.Second

// leases are the declarations in force, and the holders that have died and still
// have descendants.
type leases struct {
	held        map[event.ID]Lease
	ended       map[event.ID]Lease
	undelivered []Lease // ended, and not handed on yet
}

// HoldLease declares a lease. On the loop.
func (t *Tracer) HoldLease(l Lease) {
	if t.leases.held == nil {
		t.leases.held = make(map[event.ID]Lease)
	}
	t.leases.held[l.Holder] = l
	t.tree.Pin(l.Holder)
}

// leaseEnded reports whether the holder of the lease that covers p is dead.
func (t *Tracer) leaseEnded(p *tracker.Process) bool {
	_, ok := t.EndedLease(p.ID)
	return ok
}

// EndedLease returns the lease that covers the process and whose holder is dead: an
// ancestor that took one, or the outermost of the marked processes
// (ABOT_TRACE_LEASH=1) above it. On the loop.
func (t *Tracer) EndedLease(id event.ID) (Lease, bool) {
	p, ok := t.tree.Get(id)
	if !ok {
		return Lease{}, false
	}
	for above := range t.tree.Ancestors(p.ID) {
		if l, ok := t.leases.ended[above.ID]; ok {
			// A mark covers whom it was handed down to.
			return l, !l.Marked || p.MarksKnown && p.Leash
		}
	}
	return Lease{}, false
}

// observeExit ends the lease that the process held, if any: one that it took, or the
// one that its mark declared where it was the outermost of the marked.
func (t *Tracer) observeExit(p *tracker.Process) {
	lease, held := t.leases.held[p.ID]
	if !held && p.MarksKnown && p.Leash {
		spawner, ok := t.tree.Get(p.Spawner)
		held = ok && spawner.MarksKnown && !spawner.Leash
		lease = Lease{Holder: p.ID, UID: p.UID, Grace: DefaultGrace, Marked: true}
	}
	if !held {
		return
	}
	lease.HolderUIDs, lease.ExitSeen = p.End.UIDs, p.End.Known
	delete(t.leases.held, p.ID)
	t.tree.Pin(p.ID)
	if t.leases.ended == nil {
		t.leases.ended = make(map[event.ID]Lease)
	}
	t.leases.ended[p.ID] = lease
	t.leases.undelivered = append(t.leases.undelivered, lease)
}

// deliverEnded hands on the leases that ended with the change that was just made.
func (l *leases) deliverEnded(fn func(Lease)) {
	if len(l.undelivered) == 0 {
		return
	}
	ended := l.undelivered
	l.undelivered = nil
	if fn == nil {
		return
	}
	for _, lease := range ended {
		fn(lease)
	}
}

// Leases returns the leases that are held. On the loop.
func (t *Tracer) Leases() []Lease {
	held := make([]Lease, 0, len(t.leases.held))
	for _, l := range t.leases.held {
		held = append(held, l)
	}
	return held
}

// expireLeases forgets ended leases that cover nobody any more.
func (t *Tracer) expireLeases() {
	for id := range t.leases.ended {
		living := false
		for range t.tree.Descendants(id) {
			living = true
			break
		}
		if !living {
			delete(t.leases.ended, id)
			t.tree.Unpin(id)
		}
	}
}

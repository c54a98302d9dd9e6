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
}

// leases are the declarations in force, and the holders that have died and still
// have descendants.
type leases struct {
	held  map[event.ID]Lease
	ended map[event.ID]Lease
}

// HoldLease declares a lease. On the loop.
func (t *Tracer) HoldLease(l Lease) {
	if t.leases.held == nil {
		t.leases.held = make(map[event.ID]Lease)
		t.leases.ended = make(map[event.ID]Lease)
	}
	t.leases.held[l.Holder] = l
}

// leaseEnded reports whether the holder of the lease that covers p is dead.
func (t *Tracer) leaseEnded(p *tracker.Process) bool {
	_, ok := t.EndedLease(p.ID)
	return ok
}

// EndedLease returns the lease that covers the process and whose holder is dead. The
// holder is an ancestor that took a lease, or the outermost of the marked processes
// (ABOT_TRACE_LEASH=1) above it. On the loop.
func (t *Tracer) EndedLease(id event.ID) (Lease, bool) {
	p, ok := t.tree.Get(id)
	if !ok {
		return Lease{}, false
	}
	marked := p.MarksKnown && p.Leash
	var outermost tracker.Process
	for above := range t.tree.Ancestors(id) {
		if l, ok := t.leases.ended[above.ID]; ok {
			return l, true
		}
		marked = marked && above.MarksKnown && above.Leash
		if marked {
			outermost = above
		}
	}
	if outermost.Dead {
		return Lease{Holder: outermost.ID, UID: outermost.UID}, true
	}
	return Lease{}, false
}

// sawExit ends the lease that the process held, if any.
func (l *leases) sawExit(id event.ID) {
	if lease, ok := l.held[id]; ok {
		delete(l.held, id)
		l.ended[id] = lease
	}
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
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// An unconfirmed adopter is what the kernel's rules say; the kernel itself is asked once
// the children have moved.
type unconfirmed struct {
	id    event.ID
	tries int
	next  time.Time
}

// confirmTries, with doubling pauses from a millisecond, is half a second.
const confirmTries = 9

// Confirm asks procfs for the parents of new orphans. The record of an exit comes
// before the kernel moves the children, so the answer may still be the dead parent.
func (g *Gatherer) Confirm() {
	now := time.Now()
	left := g.unconfirmed[:0]
	for _, u := range g.unconfirmed {
		if now.Before(u.next) {
			left = append(left, u)
			continue
		}
		if g.confirmed(u.id) {
			continue
		}
		if u.tries++; u.tries > confirmTries {
			continue
		}
		u.next = now.Add(time.Millisecond << u.tries)
		left = append(left, u)
	}
	g.unconfirmed = left
}

// confirmed reports whether there is nothing left to ask about id.
func (g *Gatherer) confirmed(id event.ID) bool {
	p, ok := g.tree.Get(id)
	if !ok || p.Dead || p.Orphan == nil {
		return true
	}
	stat, err := g.proc.Stat(id.PID)
	if err != nil || !stat.Is(id) {
		return true // it is gone, and its exit is on the way
	}
	if stat.PPID == p.Spawner.PID {
		return false
	}
	return g.tree.ConfirmParent(id, stat.PPID)
}

// Confirming reports whether there are adopters that are not confirmed yet.
func (g *Gatherer) Confirming() bool { return len(g.unconfirmed) > 0 }

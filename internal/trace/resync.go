// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// resync compares the tree with the kernel's own list: at the start, after a loss,
// and when the kernel showed a child that the tree had missed. It ends with a resync
// event, and with whatever the comparison brought to light.
func (t *Tracer) resync() {
	why := t.resyncWhy
	t.resyncWhy, t.resyncAt = "", time.Now()
	began := boottime.Now()
	tasks, err := t.source.Tasks()
	if err != nil {
		t.log.Error("resync", "reason", why, "err", err)
		t.needResync(why)
		return
	}
	tasks, _ = t.proc.AddMissingParents(tasks)
	s := t.tree.Begin(tasks, began)
	// What the ring holds by now explains most differences. Records that come
	// meanwhile may wait.
	t.drain()
	found, vanished, changes := s.End()
	// The slice belongs to the tree, and publishing may call it.
	for _, c := range append(changes[:0:0], changes...) {
		t.change(&c)
	}
	t.stats.note(t)
	if !t.synced {
		t.synced = true
		close(t.ready)
	}
	t.fill.want()
	t.publishNews()
	t.publish(&wire.Event{Type: wire.TypeResync,
		Resync: &wire.Resync{Reason: why, Found: found, Vanished: vanished}}, boottime.Now())
}

// maxDrain bounds the reading in a resync, in batches: a storm fills the ring as fast
// as it is read.
const maxDrain = 256

// An unconfirmed adopter is what the kernel's rules say; the kernel itself is asked once
// the children have moved.
type unconfirmed struct {
	id    event.ID
	tries int
	next  time.Time
}

// confirmTries, with doubling pauses from a millisecond, is half a second.
const confirmTries = 9

// confirm asks procfs for the parents of new orphans. The record of an exit comes
// before the kernel moves the children, so the answer may still be the dead parent.
func (t *Tracer) confirm() {
	now := time.Now()
	left := t.unconfirmed[:0]
	for _, u := range t.unconfirmed {
		if now.Before(u.next) {
			left = append(left, u)
			continue
		}
		if t.confirmed(u.id) {
			continue
		}
		if u.tries++; u.tries > confirmTries {
			continue
		}
		u.next = now.Add(time.Millisecond << u.tries)
		left = append(left, u)
	}
	t.unconfirmed = left
}

// confirmed reports whether there is nothing left to ask about id.
func (t *Tracer) confirmed(id event.ID) bool {
	p, ok := t.tree.Get(id)
	if !ok || p.Dead || p.Orphan == nil {
		return true
	}
	stat, err := t.proc.Stat(id.PID)
	if err != nil || !stat.Is(id) {
		return true // it is gone, and its exit is on the way
	}
	if stat.PPID == p.Spawner.PID {
		return false
	}
	return t.tree.ConfirmParent(id, stat.PPID)
}

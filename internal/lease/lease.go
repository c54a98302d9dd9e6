// SPDX-License-Identifier: Apache-2.0

// Package lease keeps the declarations of processes that their descendants are not to
// outlive them: who holds one, whose holder has died, and whom an ended one covers.
package lease

import (
	"encoding/json"
	"fmt"
	"slices"
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

// ReachesAll reports whether the holder's user could have signalled anyone: root.
func (l *Lease) ReachesAll() bool {
	const nobody = 1<<32 - 1
	return l.Reaches(event.UIDs{Real: nobody, Effective: nobody, Saved: nobody})
}

// Reaches reports whether the holder's user could have signalled a process with these ids.
func (l *Lease) Reaches(ids event.UIDs) bool {
	return event.UIDs{Real: l.UID, Effective: l.UID, Saved: l.UID}.CouldSignal(ids) &&
		(!l.ExitSeen || l.HolderUIDs.CouldSignal(ids))
}

// DefaultGrace is the grace of a lease that names none.
const DefaultGrace = 10 * time.Second

// A Table is the declarations in force, and the holders that have died and still have
// descendants. It belongs to the goroutine that owns the tree.
type Table struct {
	tree        *tracker.Tree
	held        map[event.ID]Lease
	ended       map[event.ID]Lease
	stays       map[event.ID][]event.ID // by holder, see [Stay]
	undelivered []Lease                 // ended, and not taken yet
	changes     uint64                  // how often somebody took or gave back a lease, ever
}

// NewTable returns a table without leases on the processes of tree.
func NewTable(tree *tracker.Tree) *Table {
	return &Table{tree: tree, held: make(map[event.ID]Lease), ended: make(map[event.ID]Lease), stays: make(map[event.ID][]event.ID)}
}

// MaxPerUser is how many leases a user other than root may hold at once.
const MaxPerUser = 1024

// Room reports whether the lease may be held: its user holds fewer than MaxPerUser others.
func (t *Table) Room(l Lease) bool {
	if l.UID == 0 {
		return true
	}
	n := 0
	for holder, other := range t.held {
		if other.UID == l.UID && holder != l.Holder {
			n++
		}
	}
	return n < MaxPerUser
}

// Hold declares a lease, in the place of one that its holder has already.
func (t *Table) Hold(l Lease) {
	t.hold(l)
	t.changes++
}

func (t *Table) hold(l Lease) {
	t.held[l.Holder] = l
	delete(t.stays, l.Holder)
	t.tree.Pin(l.Holder)
}

// Held returns the leases that are held.
func (t *Table) Held() []Lease {
	held := make([]Lease, 0, len(t.held))
	for _, l := range t.held {
		held = append(held, l)
	}
	return held
}

// Ended returns the lease that covers the process and whose holder is dead: an ancestor
// that took one, or the outermost of the marked processes (ABOT_TRACE_LEASH=1) above it.
func (t *Table) Ended(id event.ID) (Lease, bool) {
	if len(t.ended) == 0 {
		return Lease{}, false
	}
	p, ok := t.tree.Get(id)
	if !ok {
		return Lease{}, false
	}
	stays := []event.ID{p.ID} // that may be named by the holder that comes next
	for above := range t.tree.Ancestors(p.ID) {
		if l, ok := t.ended[above.ID]; ok {
			if slices.ContainsFunc(stays, func(id event.ID) bool { return t.Stays(l.Holder, id) }) {
				return Lease{}, false
			}
			// A mark covers whom it was handed down to.
			return l, !l.Marked || p.MarksKnown && p.Leash
		}
		stays = append(stays, above.ID)
	}
	return Lease{}, false
}

// Over returns the lease that the process stands below, whether it covers it or not, and
// whether its holder is dead: the nearest that has ended, else the nearest that is held.
func (t *Table) Over(id event.ID) (over Lease, ended, ok bool) {
	for above := range t.tree.Ancestors(id) {
		if l, found := t.ended[above.ID]; found {
			return l, true, true
		}
		if ok || above.Dead {
			continue
		}
		if over, ok = t.held[above.ID]; !ok {
			over, ok = t.declared(&above)
		}
	}
	return over, false, ok
}

// declared returns the lease that a process holds by the mark in its environment, being the
// outermost of the marked.
func (t *Table) declared(p *tracker.Process) (Lease, bool) {
	if !p.MarksKnown || !p.Leash {
		return Lease{}, false
	}
	spawner, ok := t.tree.Get(p.Spawner)
	return Lease{Holder: p.ID, UID: p.UID, Grace: DefaultGrace, Marked: true}, ok && spawner.MarksKnown && !spawner.Leash
}

// ObserveExit ends the lease that the process, which has died, held, if any: one that it
// took, or the one that its mark declared where it was the outermost of the marked.
func (t *Table) ObserveExit(p *tracker.Process) {
	lease, held := t.held[p.ID]
	if !held {
		lease, held = t.declared(p)
	}
	if !held {
		return
	}
	lease.HolderUIDs, lease.ExitSeen = p.End.UIDs, p.End.Known
	delete(t.held, p.ID)
	t.tree.Pin(p.ID)
	t.ended[p.ID] = lease
	t.undelivered = append(t.undelivered, lease)
}

// HasEnded reports whether TakeEnded has anything to return.
func (t *Table) HasEnded() bool { return len(t.undelivered) > 0 }

// TakeEnded returns the leases that have ended since the last call.
func (t *Table) TakeEnded() []Lease {
	ended := t.undelivered
	t.undelivered = nil
	return ended
}

// Expire forgets ended leases that cover nobody any more.
func (t *Table) Expire() {
	for id := range t.ended {
		living := false
		for range t.tree.Descendants(id) {
			living = true
			break
		}
		if !living {
			delete(t.ended, id)
			delete(t.stays, id)
			t.tree.Unpin(id)
		}
	}
}

// Forget drops the leases of holders that the tree does not know, now that it knows all who
// live: they died while nobody looked.
func (t *Table) Forget() {
	for holder := range t.held {
		if _, known := t.tree.Get(holder); !known {
			delete(t.held, holder)
			delete(t.stays, holder)
		}
	}
}

// Saved is what a table is saved as.
type Saved struct {
	Held  []Lease `json:"held"`
	Ended []Lease `json:"ended"`
	Stays []Stay  `json:"stays,omitempty"`
	// Changes is how often a lease was taken or given back until then: it tells which of two
	// is the later one.
	Changes uint64 `json:"changes,omitempty"`
}

// Later returns what is to be restored of a table that was saved with its tree, and then
// perhaps once more without it. Either may be empty.
func Later(withTree, alone []byte) ([]byte, error) {
	var s [2]Saved
	for i, b := range [][]byte{withTree, alone} {
		if len(b) == 0 {
			continue
		}
		var err error
		if s[i], err = Decode(b); err != nil {
			return nil, err
		}
	}
	return s[0].with(s[1]).encode()
}

// with returns what is to be restored, with the tree that s was saved with, where other may
// have been saved after it. The end of a holder that only other knows of is still to come:
// its record follows the tree.
func (s Saved) with(other Saved) Saved {
	if other.Changes <= s.Changes {
		return s
	}
	known := make(map[event.ID]bool, len(s.Ended))
	for _, l := range s.Ended {
		known[l.Holder] = true
	}
	other.Held = slices.Clone(other.Held)
	for _, l := range other.Ended {
		if !known[l.Holder] && !l.Marked {
			l.HolderUIDs, l.ExitSeen = event.UIDs{}, false
			other.Held = append(other.Held, l)
		}
	}
	other.Ended = s.Ended
	return other
}

// Save returns what Decode reads.
func (t *Table) Save() ([]byte, error) {
	s := Saved{Held: t.Held(), Stays: t.savedStays(), Changes: t.changes}
	for _, l := range t.ended {
		s.Ended = append(s.Ended, l)
	}
	return s.encode()
}

func (s Saved) encode() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	return b, nil
}

// Decode reads what Save has returned.
func Decode(b []byte) (Saved, error) {
	var s Saved
	if err := json.Unmarshal(b, &s); err != nil {
		return Saved{}, fmt.Errorf("leases: %w", err)
	}
	return s, nil
}

// Restore goes on from what was saved, with the tree as it was then. Those that had
// ended are returned by TakeEnded again: whoever was to end their descendants may not have
// come to it.
func (t *Table) Restore(s Saved) {
	t.changes = s.Changes
	for _, l := range s.Held {
		t.hold(l)
	}
	for _, l := range s.Ended {
		t.ended[l.Holder] = l
		t.tree.Pin(l.Holder)
	}
	for _, stay := range s.Stays {
		t.stays[stay.Holder] = stay.IDs
	}
	t.Expire()
	for _, l := range t.ended {
		t.undelivered = append(t.undelivered, l)
	}
}

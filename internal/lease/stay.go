// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A Stay names who stays when a lease was given back in order: the lease covers neither
// them nor what descends from them. They are judged as if there were no lease.
type Stay struct {
	Holder event.ID   `json:"holder"`
	IDs    []event.ID `json:"ids"`
}

// MaxStays is how many one holder may name.
const MaxStays = 1024

// GiveBack gives the lease of a holder back but for those who descend from it and are not
// named. It returns who of the named was taken: living descendants of the holder. ok is
// false where the holder has no lease.
func (t *Table) GiveBack(holder event.ID, ids []event.ID) (taken []event.ID, ok bool) {
	if _, ok := t.held[holder]; !ok {
		return nil, false
	}
	living := make(map[event.ID]bool)
	for id := range t.tree.Descendants(holder) {
		living[id] = true
	}
	for _, id := range ids[:min(len(ids), MaxStays)] {
		if living[id] {
			taken = append(taken, id)
		}
	}
	t.stays[holder] = taken
	t.changes++
	return taken, true
}

// Stays reports whether the holder named a process, itself and not one above it.
func (t *Table) Stays(holder, id event.ID) bool { return slices.Contains(t.stays[holder], id) }

// stays for Save, in no order.
func (t *Table) savedStays() []Stay {
	out := make([]Stay, 0, len(t.stays))
	for holder, ids := range t.stays {
		out = append(out, Stay{holder, ids})
	}
	return out
}

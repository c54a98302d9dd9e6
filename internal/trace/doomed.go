// SPDX-License-Identifier: Apache-2.0

package trace

import "github.com/abot-trace/abot-trace/internal/event"

// Between a fatal signal and the death that it brings the loop has nothing to do for some
// ten microseconds. What will be asked about those who are left behind is asked then.

// Bounds on that: how many dying parents are remembered, and how many of those below one
// are looked at. The others are as they would be without.
const (
	maxDying  = 64
	maxDoomed = 8
)

// seeDying takes note of a process that was sent a fatal signal.
func (t *Tracer) seeDying(id event.ID) {
	if len(t.dying) == maxDying {
		return
	}
	for range t.tree.Children(id) {
		t.dying = append(t.dying, id)
		return
	}
}

// foresee looks at those who are soon to be orphans, until a record comes: then it reports
// true, and the record is to be read first.
func (t *Tracer) foresee() (interrupted bool) {
	dying := t.dying
	t.dying = t.dying[:0]
	for _, id := range dying {
		if p, ok := t.tree.Get(id); !ok || p.Dead {
			continue
		}
		left := maxDoomed
		for doomed := range t.tree.Descendants(id) {
			if left--; left < 0 {
				break
			}
			if t.source.Pending() > 0 {
				return true
			}
			t.lookAhead(doomed)
		}
	}
	return false
}

func (t *Tracer) lookAhead(id event.ID) {
	if p, ok := t.tree.Get(id); ok {
		t.names.group(id, p.Cgroup, true)
	}
	if t.onDoomed != nil {
		t.onDoomed(id)
	}
}

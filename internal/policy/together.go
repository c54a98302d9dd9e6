// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// What one death left is judged within a second, but not all of it at the same instant. A
// decision upon some trees of a leak waits until the others are judged, so that all that are
// due are ended by one kill.

// LeakSettles is how long after the death the verdicts on what it left are waited for at most.
// They are final after verdict.Settles, apart from the time that it takes to find that out.
const LeakSettles = 2 * verdict.Settles

// ActAtOnce has decisions not wait for verdicts on others of their leaks: for one look, after
// which there is none.
func (e *Engine) ActAtOnce() { e.atOnce = true }

// addWaiting adds to ids, which are sorted by age, those who wait no more.
func (e *Engine) addWaiting(view View, ids []event.ID, now uint64) []event.ID {
	if len(e.waiting) == 0 {
		return ids
	}
	for id, roots := range e.waiting {
		if _, waits := settlesAt(view, id, now); !waits {
			ids = append(ids, roots...)
			delete(e.waiting, id)
		}
	}
	slices.SortFunc(ids, compareAge)
	return slices.Compact(ids)
}

// waitForLeaks takes back those decisions that are to wait, and returns the others.
func (e *Engine) waitForLeaks(view View, decisions []Decision, now uint64) []Decision {
	if e.atOnce {
		return decisions
	}
	return slices.DeleteFunc(decisions, func(d Decision) bool {
		at, waits := settlesAt(view, d.Leak, now)
		if waits {
			e.Defer(&d, 0)
			e.waiting[d.Leak] = append(e.waiting[d.Leak], d.Roots()...)
			e.deadlines.push(deadline{at, d.Root})
		}
		return waits
	})
}

// settlesAt is when the verdicts on a leak's members are final at the latest, if that is
// still to come.
func settlesAt(view View, leak string, now uint64) (at uint64, waits bool) {
	if leak == "" {
		return 0, false
	}
	l, ok := view.Leak(leak)
	return l.SettlesAt, ok && l.SettlesAt > now
}

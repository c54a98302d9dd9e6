// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// Tie makes the nearest living ancestor of an orphan, whose launcher left it in order, the
// one whose death it is judged by next. No init is one: it reports whether there is any.
func (t *Tree) Tie(id event.ID) bool {
	t.input(InputTie, id, nil)
	return t.tie(id)
}

func (t *Tree) tie(id event.ID) bool {
	r := t.living(t.find(id))
	o := t.orphans[r]
	if o == nil {
		return false
	}
	t.untie(r, o)
	for at := t.at(r).spawner.parent; at != 0; at = t.at(at).spawner.parent {
		n := t.at(at)
		if n.pid == 1 || n.is(flagNSInit|flagKthread) {
			return false
		}
		if !n.is(flagDead) {
			o.Tied = n.id()
			t.ties[at] = append(t.ties[at], r)
			return true
		}
	}
	return false
}

// Untie ends what Tie made.
func (t *Tree) Untie(id event.ID) {
	r := t.find(id)
	if o := t.orphanOf(r); r != 0 && o != nil && !o.Tied.IsZero() {
		t.input(InputUntie, id, nil)
		t.untie(r, o)
	}
}

func (t *Tree) untie(r ref, o *Orphan) {
	if o.Tied.IsZero() {
		return
	}
	to := t.find(o.Tied)
	o.Tied = event.ID{}
	t.ties[to] = slices.DeleteFunc(t.ties[to], func(tied ref) bool { return tied == r })
	if len(t.ties[to]) == 0 {
		delete(t.ties, to)
	}
}

// retie makes the index of ties from the orphans.
func (t *Tree) retie() {
	clear(t.ties)
	for r, o := range t.orphans {
		to := t.living(t.find(o.Tied))
		if to == 0 {
			o.Tied = event.ID{}
			continue
		}
		t.ties[to] = append(t.ties[to], r)
	}
}

// releaseTied has those that were tied to r, which just died, be judged by its death. What
// the tracer's own process ended, or died unseen, says nothing of them.
func (t *Tree) releaseTied(r ref, how end) {
	tied := slices.Clone(t.ties[r])
	if len(tied) == 0 {
		return
	}
	leaker := t.leaker(r, how)
	for _, child := range tied {
		old := t.orphans[child]
		if old == nil {
			continue
		}
		if !how.known || t.Ours(&leaker.End) {
			t.tie(t.at(child).id())
			continue
		}
		o := *old
		if !old.ByTie {
			o.Launcher, o.LauncherLived = old.Leaker, old.Lived
		}
		o.Since, o.Leaker, o.ByTie, o.Tied = leaker.End.Time, leaker, true, event.ID{}
		o.Observed = old.Observed && leaker.End.Known
		o.Lived = lived(t.at(child), &o)
		o.AtDeathKnown = false
		t.announce(child, &o)
		t.strand(child, &o, 1)
	}
}

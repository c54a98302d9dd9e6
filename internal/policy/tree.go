// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Why a process is spared only for now: it is read, and looked at again.
const (
	programUnknown = "what it runs was not seen when it executed it, and has not been read since"
	marksUnknown   = "whether ABOT_TRACE_KEEP=1 is in its environment is not known"
)

// spare says why p is never signalled by any rule, or nothing. Nobody signals the dead: of
// them only what is known counts, for those below.
func (e *Engine) spare(p *Process) string {
	if reason := e.protection.Reason(p); reason != "" {
		return "protected: " + reason
	}
	switch {
	case p.Keep:
		return "ABOT_TRACE_KEEP=1 in its environment says to keep it"
	case p.Dead:
		return ""
	case p.Unread:
		p.readMarks()
		return programUnknown
	case !p.MarksKnown:
		p.readMarks()
		return marksUnknown
	}
	return ""
}

func (p *Process) readMarks() {
	if p.ReadMarks != nil {
		p.ReadMarks(p.ID)
	}
}

// leakerOf returns the user ids that decide whom the end of p's leaker may end with p.
// Where that end was not seen, p's own stand in: it is reported, or ended by a rule that
// names it by other things.
func leakerOf(p *Process) *event.UIDs {
	if p.Leaker != nil || p.Dead || !p.KnowsUIDs() {
		return p.Leaker
	}
	ids := p.UIDs
	return &ids
}

// spareFrom says why p is not signalled by r because of the end of a leaker with these user
// ids, or nothing.
func (e *Engine) spareFrom(r *rule, p *Process, leaker *event.UIDs) string {
	if reason := e.spare(p); reason != "" || p.Dead {
		return reason
	}
	return cmp.Or(r.exempt(p), outOfReach(r, p, leaker))
}

// exempt says why r ends p in no case, or nothing.
func (r *rule) exempt(p *Process) string {
	if p.Exempt == nil {
		return ""
	}
	return p.Exempt(r.Name)
}

// leaveOut says why p, met below a root that r matched at the instant at, does not
// belong to what r ends because of a leaker with these user ids. Orphanings after at do
// not count: they are the kill's own doing.
func (e *Engine) leaveOut(r *rule, p *Process, at uint64, leaker *event.UIDs) string {
	if reason := e.spareFrom(r, p, leaker); reason != "" {
		return reason
	}
	if p.Orphan && p.Since <= at && !slices.Contains(r.Verdict, p.Verdict) {
		return "an orphan of its own, whose verdict is " + p.Verdict
	}
	if !p.Observed && !e.oneShotKill(r) {
		return "who spawned it was not observed"
	}
	return ""
}

// above calls yield with each ancestor whose tree, ended by r, would include c,
// nearest first, until yield returns false.
func (e *Engine) above(c *candidate, r *rule, yield func(*Process) bool) {
	ancestors(c.view, &c.p, func(a *Process) bool { return !e.cutsOff(r, a) && yield(a) })
}

// root returns whom rule i is to act upon when c is ready for it: c itself, or the
// topmost ancestor within the same tree that is ready too. It is covered when the
// rule has acted on that tree before.
func (e *Engine) root(c *candidate, i int, r *rule) (root event.ID, covered bool) {
	if r.Action == ActionKill && e.blocker(r, &c.p) != "" {
		return c.p.ID, false // it belongs to no tree above it
	}
	above := e.line(c, i, r)
	if above.top.IsZero() {
		return c.p.ID, above.covered
	}
	return above.top, above.covered
}

// acted reports whether rule i has acted on the tree of this root.
func (e *Engine) acted(i int, root event.ID) bool {
	s := e.state[stateKey{i, root}]
	return s != nil && s.acted
}

// members walks the decision's trees by lineage and returns whom to signal and whom
// not, tree by tree, parents before children.
func (e *Engine) members(view View, d *Decision) (targets []Target, spared []Spared) {
	seen := make(map[event.ID]bool, len(d.Trees))
	for i := range d.Trees {
		seen[d.Trees[i].Root] = true
	}
	for i := range d.Trees {
		targets, spared = e.addMembers(view, d, &d.Trees[i], seen, targets, spared)
	}
	return targets, spared
}

// addMembers adds those of one tree who were not seen before.
func (e *Engine) addMembers(view View, d *Decision, tree *Tree, seen map[event.ID]bool, targets []Target, spared []Spared) ([]Target, []Spared) {
	var p Process
	stack := []event.ID{tree.Root}
	for len(stack) > 0 {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !view.Process(id, &p) {
			continue
		}
		reason := e.why(d, tree, &p)
		target := TargetOf(&p)
		target.Tree = tree.Root
		switch {
		case reason != "" && !p.Dead:
			spared = append(spared, Spared{target, reason, reason == programUnknown || reason == marksUnknown})
		case !p.Dead:
			targets = append(targets, target)
		}
		if reason != "" || d.Scope == wire.ScopeProcess {
			continue
		}
		from := len(stack)
		view.Children(id, func(child event.ID) bool {
			if !seen[child] {
				seen[child] = true
				stack = append(stack, child)
			}
			return true
		})
		// Youngest first on the stack, so that the oldest comes off first.
		slices.SortFunc(stack[from:], func(a, b event.ID) int { return compareAge(b, a) })
	}
	return targets, spared
}

// TargetOf is p as a target.
func TargetOf(p *Process) Target {
	return Target{ID: p.ID, Comm: p.Comm, Cmdline: p.Cmdline, UID: p.UID, UIDs: p.UIDs, UIDsAsked: p.UIDsKnown,
		Unit: p.Unit, RSS: p.RSS, Swap: p.Swap, MemoryKnown: p.MemoryKnown}
}

// Targets returns who belongs to d's trees now: what lives of them, and what was forked
// since. A tree grows while it is being ended, and its root may be dead already.
func (e *Engine) Targets(view View, d *Decision) ([]Target, []Spared) {
	return e.members(view, d)
}

// why says why p, a member of one of d's trees, is not to be ended by d, or nothing.
func (e *Engine) why(d *Decision, tree *Tree, p *Process) string {
	if p.ID == tree.Root {
		return e.spareFrom(d.rule, p, tree.leaker)
	}
	return e.leaveOut(d.rule, p, d.At, tree.leaker)
}

// Holds checks d once more, right before signals are sent: of each tree that nothing was sent
// to, the root must still live and meet the conditions; those that look at more than its tree
// only as long as no tree of d has begun. Trees that do not hold are no part of d any more,
// and the rule may act on them again. Where none is left, d stays as it was, and Holds
// returns why.
func (e *Engine) Holds(view View, host *Host, d *Decision, now uint64) (bool, string) {
	conditions := d.rule.conditions
	if slices.ContainsFunc(d.Trees, func(t Tree) bool { return t.Begun }) {
		conditions = d.rule.ofTree
	}
	e.begin(view)
	var left, lapsed []Tree
	why := ""
	for i := range d.Trees {
		t := &d.Trees[i]
		if reason := e.lapsed(e.candidate(view, host, now), d, t, conditions); !t.Begun && reason != "" {
			lapsed = append(lapsed, *t)
			why = cmp.Or(why, reason)
			continue
		}
		left = append(left, *t)
	}
	if len(left) == 0 {
		return false, why
	}
	for i := range lapsed {
		e.deferTree(&lapsed[i], 0)
	}
	d.Trees, d.Root = left, left[0].Root
	return true, ""
}

// lapsed says why one tree of d is not to be ended after all, or nothing.
func (e *Engine) lapsed(c *candidate, d *Decision, t *Tree, conditions []condition) string {
	if !c.reset(t.Root) || c.p.Dead {
		return "it is dead"
	}
	if !c.p.Orphan {
		return "it is not an orphan"
	}
	if d.Action == ActionKill {
		if reason := e.spareOrphan(&c.p, t.key.rule, d.rule); reason != "" {
			return reason
		}
	}
	for _, condition := range conditions {
		if ok, _ := condition.holds(c); !ok {
			return condition.describe(c)
		}
	}
	return ""
}

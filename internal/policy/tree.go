// SPDX-License-Identifier: Apache-2.0

package policy

import (
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
	return outOfReach(r, p, leaker)
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

// members walks the decision's tree by lineage and returns whom to signal and whom
// not, parents before children.
func (e *Engine) members(view View, d *Decision) (targets []Target, spared []Spared) {
	var p Process
	seen := map[event.ID]bool{d.Root: true}
	stack := []event.ID{d.Root}
	for len(stack) > 0 {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !view.Process(id, &p) {
			continue
		}
		reason := e.why(d, &p)
		switch {
		case reason != "" && !p.Dead:
			spared = append(spared, Spared{TargetOf(&p), reason, reason == programUnknown || reason == marksUnknown})
		case !p.Dead:
			targets = append(targets, TargetOf(&p))
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

// Targets returns who belongs to d's tree now: what lives of it, and what was forked
// since. A tree grows while it is being ended, and its root may be dead already.
func (e *Engine) Targets(view View, d *Decision) ([]Target, []Spared) {
	return e.members(view, d)
}

// Spares says why one member of d's tree must not be signalled after all, as the view
// knows it now, or nothing. It is for the look before every signal: what the kill
// itself has changed is no reason.
func (e *Engine) Spares(view View, d *Decision, id event.ID) string {
	var p Process
	if !view.Process(id, &p) {
		return "it is not known any more"
	}
	return e.why(d, &p)
}

// why says why p, a member of d's tree, is not to be ended by d, or nothing.
func (e *Engine) why(d *Decision, p *Process) string {
	if p.ID == d.Root {
		return e.spareFrom(d.rule, p, d.leaker)
	}
	return e.leaveOut(d.rule, p, d.At, d.leaker)
}

// Holds checks d once more, right before its first signal: the root must still live
// and meet every condition. It returns why not.
func (e *Engine) Holds(view View, host *Host, d *Decision, now uint64) (bool, string) {
	e.begin(view)
	c := e.candidate(view, host, now)
	if !c.reset(d.Root) || c.p.Dead {
		return false, "it is dead"
	}
	if !c.p.Orphan {
		return false, "it is not an orphan"
	}
	if d.Action == ActionKill {
		e.begin(view)
		if reason := e.spareOrphan(&c.p, d.key.rule, d.rule); reason != "" {
			return false, reason
		}
	}
	for _, condition := range d.rule.conditions {
		if ok, _ := condition.holds(c); !ok {
			return false, condition.describe(c)
		}
	}
	return true, ""
}

// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// RuleReason says whether one rule applies to a process, and why.
type RuleReason struct {
	Name    string
	Applies bool   // it acts, would act, or waits only for time to pass
	Ends    bool   // what it does is a kill that is carried out, not reported
	Why     string // one sentence
	ActsAt  uint64 // the instant at which it acts if nothing changes; 0 if none
}

// Explain says for each rule why it applies to id or not. It changes nothing.
func (e *Engine) Explain(view View, host *Host, id event.ID, now uint64) []RuleReason {
	e.begin(view)
	c := e.candidate(view, host, now)
	reasons := make([]RuleReason, len(e.rules))
	found := c.reset(id)
	for i, r := range e.rules {
		reasons[i] = RuleReason{Name: r.Name}
		switch {
		case !found:
			reasons[i].Why = "no such process"
		case c.p.Dead:
			reasons[i].Why = "it is dead"
		case !c.p.Orphan:
			e.explainMember(c, i, r, &reasons[i])
		default:
			e.explain(c, i, r, &reasons[i])
		}
	}
	return reasons
}

// explainMember explains a process that is no orphan itself: it may belong to the tree
// of one.
func (e *Engine) explainMember(c *candidate, i int, r *rule, reason *RuleReason) {
	reason.Why = "it is not an orphan: who spawned it lives, or is not known to be dead"
	if r.Action != ActionKill || r.Scope != wire.ScopeTree || e.leaveOut(r, &c.p, c.now, anyones) != "" {
		return
	}
	e.above(c, r, func(a *Process) bool {
		up := candidate{engine: e, view: c.view, host: c.host, now: c.now}
		if !isCandidate(a) || outOfReach(r, &c.p, leakerOf(a)) != "" || !up.reset(a.ID) {
			return true
		}
		ofRoot := RuleReason{Name: r.Name}
		if e.explain(&up, i, r, &ofRoot); ofRoot.Applies {
			*reason = ofRoot
			reason.Why = fmt.Sprintf("it belongs to the tree of the orphan pid %d (%s): %s", a.ID.PID, a.Comm, ofRoot.Why)
		}
		return true
	})
}

func (e *Engine) explain(c *candidate, i int, r *rule, reason *RuleReason) {
	if r.Action == ActionKill {
		if why := e.spareOrphan(&c.p, i, r); why != "" {
			reason.Why = why
			return
		}
	}
	var waiting uint64
	for _, condition := range r.conditions {
		ok, at := condition.holds(c)
		if ok {
			continue
		}
		if at == 0 {
			reason.Why, reason.ActsAt = condition.describe(c), 0
			return
		}
		reason.Why, waiting = condition.describe(c), max(waiting, at)
	}
	reason.Applies = true
	reason.Ends = r.Action == ActionKill && r.Mode == wire.ModeEnforce && e.blocker(r, &c.p) == ""
	s := e.state[stateKey{i, c.p.ID}]
	if waiting != 0 {
		reason.Why = "it will apply with time: " + reason.Why
		reason.ActsAt = after(waiting, r.For)
		return
	}
	e.explainHolding(c, i, r, s, reason)
}

// explainHolding explains a rule whose conditions all hold.
func (e *Engine) explainHolding(c *candidate, i int, r *rule, s *state, reason *RuleReason) {
	act := "it would kill"
	switch {
	case r.Action == ActionNotify:
		act = "it notifies"
	case r.Mode == wire.ModeEnforce && e.blocker(r, &c.p) == "":
		act = "it kills"
	}
	what := fmt.Sprintf("%s (mode %s, scope %s): %s", act, r.Mode, r.Scope, conditionsMet(c, r))
	if why := e.blocker(r, &c.p); why != "" && r.Action == ActionKill {
		what += "; reported only, because " + why
	}
	done := "it has told of" // what it does not do again
	if reason.Ends {
		done = "it has acted on"
	}
	switch {
	case s != nil && s.acted:
		reason.Why = done + " this tree; " + what
	case e.coveredByAncestor(c, i, r):
		reason.Why = done + " the tree of an ancestor; " + what
	default:
		since, retry := c.now, uint64(0)
		if s != nil {
			since, retry = s.since, s.retry
		}
		reason.Why, reason.ActsAt = what, max(after(since, r.For), retry, c.now)
	}
}

func conditionsMet(c *candidate, r *rule) string {
	text := ""
	for i, condition := range r.conditions {
		if i > 0 {
			text += ", "
		}
		text += condition.describe(c)
	}
	return text
}

func (e *Engine) coveredByAncestor(c *candidate, i int, r *rule) (covered bool) {
	e.above(c, r, func(a *Process) bool {
		covered = e.acted(i, a.ID)
		return !covered
	})
	return covered
}

// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/expr-lang/expr/vm"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Options are what an engine is made of.
type Options struct {
	Rules   []Rule
	Protect Protect
	// OneShot says that the view is a single snapshot without a history: nothing in
	// it was observed. A rule then carries a kill only if it asks for that, by
	// naming unknown in its verdict and matching on a field that narrows too.
	OneShot bool
}

// Engine evaluates rules over a view. It keeps for each rule and orphan since when
// it holds and whether it has acted, and nothing else. It belongs to one goroutine.
type Engine struct {
	rules      []*rule
	protection *Protection
	oneShot    bool
	state      map[stateKey]*state
	deadlines  deadlines
	machine    vm.VM
	c          candidate
	pass       pass
	atOnce     bool
	// waiting are, by leak, roots that are due while verdicts on others of their leak are
	// pending.
	waiting map[string][]event.ID
}

type stateKey struct {
	rule int
	id   event.ID
}

type state struct {
	since uint64 // the rule's conditions have held since
	acted bool   // the rule has acted on the tree of this root
	retry uint64 // not again before: a budget held it back
}

// NewEngine compiles the rules. Its errors are a [FieldError].
func NewEngine(o Options) (*Engine, error) {
	e := &Engine{oneShot: o.OneShot, state: make(map[stateKey]*state),
		waiting: make(map[string][]event.ID)}
	e.c.engine = e
	var err error
	if e.protection, err = NewProtection(o.Protect); err != nil {
		return nil, err
	}
	for _, r := range o.Rules {
		compiled, err := compile(r)
		if err != nil {
			return nil, err
		}
		e.rules = append(e.rules, compiled)
	}
	return e, nil
}

// Protection returns the protected set.
func (e *Engine) Protection() *Protection { return e.protection }

// AsksUnits reports whether rules or protection look at units or control groups: a view
// may leave them out else.
func (e *Engine) AsksUnits() bool {
	return len(e.protection.units) > 0 || e.needs(NeedsUnits)
}

// AsksContainers is AsksUnits for containers.
func (e *Engine) AsksContainers() bool {
	return len(e.protection.containers) > 0 || e.needs(NeedsContainers)
}

// AsksHeld is AsksUnits for what processes hold.
func (e *Engine) AsksHeld() bool { return e.needs(NeedsHeld) }

func (e *Engine) needs(n Needs) bool {
	return slices.ContainsFunc(e.rules, func(r *rule) bool { return r.needs&n != 0 })
}

// Inherit takes over what old knows of the rules that both have unchanged, so that a
// reload neither acts twice nor restarts a wait. Old must not be used afterwards.
// The next pass over the whole view makes the deadlines.
func (e *Engine) Inherit(old *Engine) {
	same := make(map[int]int)
	for i, r := range old.rules {
		for j, own := range e.rules {
			if reflect.DeepEqual(r.Rule, own.Rule) {
				same[i] = j
			}
		}
	}
	for key, s := range old.state {
		if j, ok := same[key.rule]; ok {
			s.retry = 0 // what held it back may be configured otherwise now
			e.state[stateKey{j, key.id}] = s
		}
	}
}

// Evaluate judges every living orphan: after a sample, a resync, a reload, a change
// in memory pressure. It returns what is to be done, older trees first, rules in
// their order, and remembers it as done: see [Engine.Defer].
func (e *Engine) Evaluate(view View, host *Host, now uint64) []Decision {
	var ids []event.ID
	view.Orphans(func(id event.ID) bool {
		ids = append(ids, id)
		return true
	})
	// An ancestor is older than its descendants: the topmost match comes first.
	slices.SortFunc(ids, compareAge)
	e.prune(view)
	e.deadlines = e.deadlines[:0]
	return e.evaluateAll(view, host, ids, now)
}

// EvaluateOrphans judges some orphans, at the moment they became ones, without a look at
// the others.
func (e *Engine) EvaluateOrphans(view View, host *Host, ids []event.ID, now uint64) []Decision {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, compareAge)
	return e.evaluateAll(view, host, ids, now)
}

// evaluateAll judges orphans, which are sorted by age, in one pass.
func (e *Engine) evaluateAll(view View, host *Host, ids []event.ID, now uint64) (decisions []Decision) {
	ids = e.addWaiting(view, ids, now)
	e.begin(view)
	for _, id := range ids {
		decisions = e.evaluate(view, host, id, now, decisions)
	}
	return e.waitForLeaks(view, join(decisions), now)
}

// Due judges the orphans whose deadline has come: those for which the passing of
// time alone could have made a rule hold.
func (e *Engine) Due(view View, host *Host, now uint64) []Decision {
	var ids []event.ID
	for len(e.deadlines) > 0 && e.deadlines[0].at <= now {
		ids = append(ids, e.deadlines.pop().id)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.SortFunc(ids, compareAge)
	return e.evaluateAll(view, host, slices.Compact(ids), now) // who asks for now again has to wait
}

// WillEnd reports whether an armed rule that has not acted on the orphan yet would end it
// now: it is held back by its budget at most, or has not been come to.
func (e *Engine) WillEnd(view View, host *Host, id event.ID, now uint64) bool {
	e.begin(view)
	c := e.candidate(view, host, now)
	if !c.reset(id) || !isCandidate(&c.p) {
		return false
	}
	for i, r := range e.rules {
		if r.Action != ActionKill || r.Mode != wire.ModeEnforce || e.acted(i, id) || e.blocker(r, &c.p) != "" {
			continue
		}
		if ok, _ := r.holds(c); ok && e.spareOrphan(&c.p, i, r) == "" {
			return true
		}
	}
	return false
}

// Defer takes back that d was done and offers it again from retryAt on, where it
// still holds then; at the next full pass when retryAt is 0. It is for a budget that
// held it back.
func (e *Engine) Defer(d *Decision, retryAt uint64) {
	for i := range d.Trees {
		e.deferTree(&d.Trees[i], retryAt)
	}
}

func (e *Engine) deferTree(t *Tree, retryAt uint64) {
	s := e.state[t.key]
	if s == nil {
		return
	}
	s.acted, s.retry = false, retryAt
	if retryAt != 0 {
		e.deadlines.push(deadline{retryAt, t.key.id})
	}
}

// DeferTrees is Defer for those of d's trees whose roots which picks: they are no part of d
// any more, whose targets are found anew. It reports whether d has trees left, else d stays
// as it was.
func (e *Engine) DeferTrees(view View, d *Decision, retryAt uint64, which func(root event.ID) bool) bool {
	var left []Tree
	for i := range d.Trees {
		if which(d.Trees[i].Root) {
			e.deferTree(&d.Trees[i], retryAt)
		} else {
			left = append(left, d.Trees[i])
		}
	}
	switch len(left) {
	case 0:
		return false
	case len(d.Trees):
		return true
	}
	d.Trees, d.Root = left, left[0].Root
	d.Targets, d.Spared = e.members(view, d)
	return true
}

// Forget drops what is kept of a process that the view no longer knows. Full passes
// do so too.
func (e *Engine) Forget(id event.ID) {
	for i := range e.rules {
		delete(e.state, stateKey{i, id})
	}
}

// prune forgets processes that the view has forgotten. A dead root is kept as long
// as the view keeps it, since its descendants are still the same tree.
func (e *Engine) prune(view View) {
	var p Process
	for key, s := range e.state {
		if !view.Process(key.id, &p) || p.Dead && !s.acted {
			delete(e.state, key)
		}
	}
}

// evaluate judges one orphan by every rule and notes its next deadline.
func (e *Engine) evaluate(view View, host *Host, id event.ID, now uint64, decisions []Decision) []Decision {
	if len(e.rules) == 0 {
		return decisions
	}
	c := e.candidate(view, host, now)
	if !c.reset(id) || !isCandidate(&c.p) {
		return decisions
	}
	var next uint64
	for i, r := range e.rules {
		ready, at := e.ready(c, i, r)
		if ready && (r.Action == ActionNotify || e.spareOrphan(&c.p, i, r) == "") {
			decisions = e.act(c, i, r, decisions)
			continue
		}
		if at > now && (next == 0 || at < next) {
			next = at
		}
	}
	if next != 0 {
		e.deadlines.push(deadline{next, id})
	}
	return decisions
}

// act decides upon c, or upon the root of the tree that c is a part of.
func (e *Engine) act(c *candidate, i int, r *rule, decisions []Decision) []Decision {
	root, covered := e.root(c, i, r)
	switch {
	case covered:
		return decisions
	case root == c.p.ID:
		return append(decisions, e.decide(c, i, r))
	}
	up := candidate{engine: e, view: c.view, host: c.host, now: c.now}
	if !up.reset(root) {
		return decisions
	}
	return append(decisions, e.decide(&up, i, r))
}

// candidate returns the engine's one candidate, made ready for a view.
func (e *Engine) candidate(view View, host *Host, now uint64) *candidate {
	e.c.view, e.c.host, e.c.now = view, host, now
	return &e.c
}

func isCandidate(p *Process) bool { return p.Orphan && !p.Dead }

// ready reports whether rule i is to act on c now: its conditions hold, have held
// for long enough, and it has not acted. Otherwise at is the instant at which time
// alone may change that, 0 if it cannot.
func (e *Engine) ready(c *candidate, i int, r *rule) (ok bool, at uint64) {
	key := stateKey{i, c.p.ID}
	c.unread = false
	ok, at = r.holds(c)
	if !ok {
		// While what it holds is read anew, it holds what it held.
		if s := e.state[key]; s != nil && !s.acted && !c.unread {
			delete(e.state, key)
		}
		return false, at
	}
	s := e.state[key]
	if s == nil {
		if r.For == 0 {
			return true, 0
		}
		s = &state{since: c.now}
		e.state[key] = s
	}
	if s.acted {
		return false, 0
	}
	at = max(after(s.since, r.For), s.retry)
	return c.now >= at, at
}

// holds checks the conditions in order. When only time is missing, at is when the
// last of the missing ages is reached.
func (r *rule) holds(c *candidate) (ok bool, at uint64) {
	ok = true
	for _, condition := range r.conditions {
		if _, reads := condition.(readCondition); reads && !ok {
			return false, at
		}
		held, when := condition.holds(c)
		if held {
			continue
		}
		if when == 0 {
			return false, 0
		}
		ok, at = false, max(at, when)
	}
	return ok, at
}

// decide makes the decision and remembers it as done.
func (e *Engine) decide(c *candidate, i int, r *rule) Decision {
	key := stateKey{i, c.p.ID}
	s := e.state[key]
	if s == nil {
		s = &state{since: c.now}
		e.state[key] = s
	}
	s.acted = true
	e.hasActed(i, key.id)
	d := Decision{
		Rule: r.Name, Mode: r.Mode, Action: r.Action, Scope: r.Scope, Grace: r.Grace,
		Root: c.p.ID, Trees: []Tree{{Root: c.p.ID, key: key}}, Leak: c.p.Leak, Verdict: c.p.Verdict, At: c.now, rule: r,
	}
	for _, condition := range r.conditions {
		d.Reasons = append(d.Reasons, condition.describe(c))
	}
	if r.For > 0 {
		d.Reasons = append(d.Reasons, "all of this has held for "+quantity.FormatDuration(age(c.now, s.since)))
	}
	d.Blocker = e.blocker(r, &c.p)
	d.Enforceable = d.Blocker == ""
	if r.Action == ActionKill {
		d.Trees[0].leaker = leakerOf(&c.p)
		d.Targets, d.Spared = e.members(c.view, &d)
	}
	return d
}

// blocker says why a kill of r's match p would not be carried out, or nothing.
func (e *Engine) blocker(r *rule, p *Process) string {
	switch {
	case p.Observed || e.oneShotKill(r):
		return ""
	case e.oneShot:
		return "nobody observed who spawned it: a one-shot pass ends that only by a rule that names unknown in its verdict and matches on user, unit, container, exe or cmdline"
	default:
		return "who spawned it was not observed"
	}
}

func (e *Engine) oneShotKill(r *rule) bool {
	return e.oneShot && r.narrowed && slices.Contains(r.Verdict, "unknown")
}

// compareAge orders processes by start, then pid.
func compareAge(a, b event.ID) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
}

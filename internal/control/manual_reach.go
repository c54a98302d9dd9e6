// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"slices"
	"strings"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// An aim is what a ManualKill names: a process, or a leak.
type aim struct {
	root event.ID
	leak string
}

// aim finds what the kill names. A pid is the living process that has it; what a dead one
// left is meant only where exactly one known leak was left by that pid. On the loop.
func (c *Controller) aim(m *ManualKill) (aim, error) {
	if m.Leak != "" {
		if _, known := c.tracer.Leaks().Living(m.Leak); !known {
			return aim{}, refuse(NotThere, "no leak %q is known: it never was, or is forgotten", m.Leak)
		}
		return aim{leak: m.Leak}, nil
	}
	id, lives := c.tracer.TreeOnLoop().Lookup(m.PID)
	if lives && (m.StartNS == 0 || m.StartNS == id.Start) {
		return aim{root: id}, nil
	}
	leaks := c.tracer.Leaks().LeftBy(m.PID, m.StartNS)
	switch {
	case len(leaks) == 1:
		return aim{leak: leaks[0]}, nil
	case len(leaks) > 1:
		return aim{}, refuse(Unfit, "no process has pid %d, and several that had it left leaks: %s", m.PID, strings.Join(leaks, ", "))
	case lives:
		return aim{}, refuse(Unfit, "pid %d began at %d ns, not at %d: it is another process by now", m.PID, id.Start, m.StartNS)
	}
	return aim{}, refuse(NotThere, "no process has pid %d, and none that had it left a leak that is known", m.PID)
}

// A reach is whom a ManualKill ends, and whom it leaves alone.
type reach struct {
	targets []policy.Target
	spared  []policy.Spared
	unread  []event.ID      // of the spared, those that only have to be read
	others  []*killInFlight // that are ending somebody in reach
}

// refusal is the error of a kill that would end nobody.
func (r *reach) refusal(a aim) error {
	switch {
	case len(r.targets) > 0:
		return nil
	case len(r.spared) > 0:
		return refuse(Forbidden, "pid %d is not ended: %s", r.spared[0].ID.PID, r.spared[0].Reason)
	case a.leak != "":
		return refuse(Unfit, "leak %s has ended: nothing of it lives", a.leak)
	}
	return refuse(NotThere, "process %d is dead", a.root.PID)
}

// manualReach is whom the kill reaches now; own is the kill itself once it runs. On the loop.
func (c *Controller) manualReach(v *view, m *ManualKill, a aim, own *killInFlight) reach {
	w := reachWalk{c: c, view: v, kill: m, own: own, seen: make(map[event.ID]bool)}
	if a.leak == "" {
		w.root = a.root
		w.visit(a.root)
		return w.reach
	}
	living, _ := c.tracer.Leaks().Living(a.leak)
	slices.SortFunc(living, func(a, b event.ID) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID)) })
	w.only = make(map[event.ID]bool, len(living))
	for _, id := range living {
		w.only[id] = true
	}
	for _, id := range living {
		if t, ok := v.tree.Get(id); ok && !w.only[t.Spawner] {
			w.visit(id)
		}
	}
	return w.reach
}

// A reachWalk goes down the trees that a kill reaches, parents before children. Who is left
// alone is left with all below it.
type reachWalk struct {
	c *Controller
	reach
	view *view
	kill *ManualKill
	own  *killInFlight
	root event.ID          // who was named; zero of a leak
	only map[event.ID]bool // of a leak, its members; nil is anybody
	seen map[event.ID]bool
}

func (w *reachWalk) visit(id event.ID) {
	var p policy.Process
	if w.seen[id] || !w.view.Process(id, &p) {
		return
	}
	w.seen[id] = true
	if !p.Dead {
		if w.only != nil && !w.only[id] {
			return
		}
		if other := w.c.otherKillOf(id, w.own); other != nil {
			w.others = append(w.others, other)
			return
		}
		if reason, unread := w.spares(id, &p); reason != "" {
			w.spared = append(w.spared, policy.Spared{Target: policy.TargetOf(&p), Reason: reason, Unread: unread})
			if unread {
				w.unread = append(w.unread, id)
			}
			return
		}
		w.targets = append(w.targets, policy.TargetOf(&p))
	}
	if w.only == nil && w.kill.Scope == wire.ScopeProcess {
		return
	}
	for child := range w.view.tree.Children(id) {
		w.visit(child)
	}
}

// notHis is why a user's kill leaves another user's process alone.
const notHis = "it is another user's"

// spares says why a living process is left alone, or nothing; unread says that it has only
// to be read. What somebody has named by its pid is not asked for its marks or its verdict.
func (w *reachWalk) spares(id event.ID, p *policy.Process) (reason string, unread bool) {
	if by := &w.kill.By; by.UID != 0 {
		own := event.UIDs{Real: by.UID, Effective: by.UID, Saved: by.UID}
		if !p.KnowsUIDs() || !own.CouldSignal(p.UIDs) {
			return notHis, false
		}
	}
	if why := w.c.engine.Protection().Reason(p); why != "" {
		return "protected: " + why, false
	}
	if why := w.kill.owned[id]; why != "" {
		return "protected: " + why, false
	}
	if id == w.root {
		return "", false
	}
	t, _ := w.view.tree.Get(id)
	switch {
	case id.PID == w.kill.By.PID:
		return "it asks for this", false
	case p.Keep:
		return "ABOT_TRACE_KEEP=1 in its environment says to keep it", false
	case !t.MarksKnown || t.Unread:
		return "whether ABOT_TRACE_KEEP=1 is in its environment is not known", true
	case p.Orphan && p.Verdict == wire.VerdictDeliberate:
		return "it was left running deliberately", false
	case p.Orphan && p.Verdict == "":
		return "its verdict is not final yet", false
	case !w.isChild(&t):
		return "who spawned it was not observed", false
	}
	return "", false
}

// isChild reports whether the process was certainly forked by its spawner: the fork was seen,
// or the spawner is its kernel parent and adopts nobody.
func (w *reachWalk) isChild(t *tracker.Process) bool {
	if t.Lineage == tracker.LineageObserved {
		return true
	}
	parent, ok := w.view.tree.Get(t.Spawner)
	return ok && t.Parent == t.Spawner && parent.ID.PID != 1 && !parent.Subreaper && !parent.NSInit
}

// planManual is PlanKill on the loop.
func (c *Controller) planManual(m ManualKill) (*wire.KillPlan, error) {
	a, err := c.aim(&m)
	if err != nil {
		return nil, err
	}
	r := c.manualReach(c.bind(), &m, a, nil)
	if len(r.targets) == 0 && len(r.spared) == 0 && len(r.others) == 0 {
		return nil, r.refusal(a)
	}
	plan := &wire.KillPlan{Schema: wire.Schema, PID: a.root.PID, StartNS: a.root.Start, Leak: a.leak, Scope: m.Scope,
		Processes: []wire.PlannedKill{}, Spared: []wire.PlannedKill{}}
	for i := range r.targets {
		plan.Processes = append(plan.Processes, c.planned(&r.targets[i], ""))
	}
	for i := range r.spared {
		s := &r.spared[i]
		if s.Reason == notHis {
			// A user learns no more of another's process than that there is one.
			plan.Spared = append(plan.Spared, wire.PlannedKill{PID: s.ID.PID, StartNS: s.ID.Start, Reason: notHis})
			continue
		}
		plan.Spared = append(plan.Spared, c.planned(&s.Target, s.Reason))
	}
	return plan, nil
}

// planned is one process of a plan. Whom the kill leaves alone is told without its arguments:
// it may be another user's.
func (c *Controller) planned(t *policy.Target, reason string) wire.PlannedKill {
	p := wire.PlannedKill{PID: t.ID.PID, StartNS: t.ID.Start, Comm: t.Comm, Reason: reason}
	if w := c.tracer.DescribeOnLoop(t.ID); w != nil {
		p.User = w.User
		if reason == "" {
			p.Cmdline = w.Cmdline
		}
	}
	if t.MemoryKnown {
		rss, swap := t.RSS, t.Swap
		p.RSSBytes, p.SwapBytes = &rss, &swap
	}
	return p
}

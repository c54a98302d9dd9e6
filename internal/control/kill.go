// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// submit queues the kill, decided upon at the mark; unless armed it is only observed,
// whatever its mode. Those in done are told on the loop what came of it, also when the queue
// does not take it.
func (c *Controller) submit(engine *policy.Engine, d *policy.Decision, mark trace.Mark, a *killInFlight) {
	a.decision, a.engine = d, engine
	mode := d.Mode
	if !a.armed {
		mode = wire.ModeObserve
	}
	req := enforce.Request{
		KillID:  c.nextID(),
		Rule:    d.Rule,
		Mode:    mode,
		Scope:   d.Scope,
		Verdict: d.Verdict,
		Reason:  reason(d),
		Grace:   d.Grace,
		UID:     userOf(d),
		Root:    d.Root,
		Roots:   d.Roots(),
		Targets: c.targets(d.Targets),
	}
	err := c.start(req, d.Targets, mark, a)
	if err == nil {
		return
	}
	engine.Defer(d, boottime.Now()+uint64(busyRetry))
	if len(a.done) > 0 {
		kill := c.outline(d)
		kill.Outcome, kill.Reason = wire.KillBudget, err.Error()
		a.tell(kill)
	}
}

// userOf is on whose account a decision's kill goes: the root's user.
func userOf(d *policy.Decision) uint32 {
	if len(d.Targets) == 0 {
		return 0
	}
	return d.Targets[0].UID
}

// asksHeld reports whether its rule looks at what processes hold: that has to be read before
// the first signal, which the loop cannot wait for.
func (a *killInFlight) asksHeld() bool { return a.decision != nil && a.decision.AsksHeld() }

func (a *killInFlight) tell(kill wire.Kill) {
	for _, done := range a.done {
		done(kill)
	}
}

// start begins the request, which was decided upon at the mark, or says why the queue does
// not take it.
func (c *Controller) start(req enforce.Request, list []policy.Target, mark trace.Mark, a *killInFlight) error {
	a.note(list)
	c.killsInFlight[req.KillID] = a
	k := c.prepare(&req, list, mark)
	req.Answers = k
	if c.opt.Owners == nil && k.cache != nil && k.cache.refusal == nil && c.queue.Reserve(&req) {
		c.sendFirstSignals(req, k)
	} else if err := c.queue.Submit(req); err != nil {
		req.Release()
		delete(c.killsInFlight, req.KillID)
		return err
	}
	a.root = c.tracer.DescribeOnLoop(req.Root)
	if a.leak, _ = c.tracer.Leaks().Of(req.Root); a.decision != nil && a.decision.Leak != "" {
		a.leak = a.decision.Leak
	}
	a.fingerprint, _ = c.tracer.Leaks().Case(req.Root)
	if req.Mode == wire.ModeEnforce {
		ids := make([]event.ID, 0, len(req.Targets))
		for i := range req.Targets {
			ids = append(ids, req.Targets[i].ID)
		}
		c.tracer.Leaks().Kill(req.KillID, req.Rule, ids)
		c.noteKill(a, req.Rule)
	}
	c.logStart(&req)
	return nil
}

// sendFirstSignals sends the first signals here and now, if that takes no time, of a kill that has its
// place in the queue. The rest of it is handed on a little later: to wake another thread for
// it would take a processor from those who die.
func (c *Controller) sendFirstSignals(req enforce.Request, k *authorizer) {
	k.isOnLoop = true
	sent := c.enf.SendFirstSignals(&req)
	k.isOnLoop = false
	if !sent {
		c.queue.Start(req)
		return
	}
	c.firstSignalsSent = append(c.firstSignalsSent, req)
	c.tracer.YieldOnLoop(c.resumeKills)
}

// resumeKills has the queue go on with those kills whose first signals are sent.
func (c *Controller) resumeKills() {
	for _, req := range c.firstSignalsSent {
		c.queue.Start(req)
	}
	c.firstSignalsSent = nil
}

func (c *Controller) nextID() string {
	c.kills++
	return fmt.Sprintf("%s-k%d", c.tracer.IDPrefix(), c.kills)
}

// logStart tells of a kill that begins.
func (c *Controller) logStart(req *enforce.Request) {
	if req.Mode != wire.ModeEnforce {
		return
	}
	attrs := []any{"kill_id", req.KillID, "rule", req.Rule, "pid", req.Root.PID, "start", req.Root.Start,
		"verdict", req.Verdict, "processes", len(req.Targets), "reason", req.Reason}
	c.notifyOrDefer(func() { c.opt.Later(func() { c.opt.Log.Warn("ending a process tree", attrs...) }) })
}

// report tells what came of a kill. On one of the queue's goroutines.
func (c *Controller) report(req enforce.Request, kill wire.Kill) {
	c.tracer.Post(func() {
		a := c.killsInFlight[req.KillID]
		delete(c.killsInFlight, req.KillID)
		if req.Mode == wire.ModeEnforce {
			c.budget.Rest(boottime.Now())
		}
		if a != nil && (a.lapsed || a.incomplete) && a.decision != nil {
			// Should it hold again, the rule has not acted yet.
			a.engine.Defer(a.decision, 0)
		}
		if a != nil && a.incomplete && a.lease != nil {
			c.waiting = append(c.waiting, *a.lease)
		}
		root := root(a, c.tracer.DescribeOnLoop(req.Root))
		if a != nil {
			kill.RequestedBy = a.requestedBy
			c.addLeak(&kill, a.leak, root)
		}
		c.noteKilled(a, &kill)
		if a == nil || !a.asked || req.Mode == wire.ModeEnforce {
			c.publish(kill, root)
		}
		if a != nil {
			a.tell(kill)
			c.waiting = append(c.waiting, a.leases...)
			c.endRest(a, &kill)
		}
	})
}

// endRest goes on with those of a tree that were left out of its kill only because nobody
// had read them: with their parents dead, nothing else would bring them up again.
func (c *Controller) endRest(a *killInFlight, kill *wire.Kill) {
	switch {
	case !a.armed:
	case a.manual != nil:
		c.endManualRest(a)
	case a.lease != nil:
		if _, unread, _ := c.leaseMembers(c.bind(), *a.lease, nil); len(unread) > 0 {
			c.tracer.ReadNow(unread, func() { c.endLease(*a.lease) })
		}
	case a.decision != nil:
		if rest := c.restOf(a, kill); len(rest) > 0 {
			c.decide(c.engine.EvaluateOrphans(c.bind(), &c.host, rest, boottime.Now()))
		}
	}
}

// restOf returns who is left of the trees of a decision's kill. Their roots cover them no
// more.
func (c *Controller) restOf(a *killInFlight, kill *wire.Kill) (rest []event.ID) {
	told := make(map[event.ID]bool, len(kill.Processes))
	for _, p := range kill.Processes {
		told[event.ID{PID: p.PID, Start: p.StartNS}] = true
	}
	v := c.bind()
	for i := range a.decision.Trees {
		tree, before := a.decision.Only(i), len(rest)
		list, spared := a.engine.Targets(v, &tree)
		for i := range list {
			if !told[list[i].ID] {
				rest = append(rest, list[i].ID)
			}
		}
		for i := range spared {
			if spared[i].Unread {
				rest = append(rest, spared[i].ID)
			}
		}
		if len(rest) > before {
			a.engine.Defer(&tree, 0)
		}
	}
	return rest
}

// addLeak adds to a kill which leak it reaches, and whose it is.
func (c *Controller) addLeak(kill *wire.Kill, leak string, root *wire.Process) {
	if root != nil {
		kill.Unit, kill.Container, kill.User = root.Unit, root.Container, root.User
		kill.ContainerName = root.ContainerName
	}
	c.tracer.Leaks().AddTo(kill, leak)
}

// root is the root of a tree after the kill, or as it was before where it is already
// forgotten.
func root(a *killInFlight, after *wire.Process) *wire.Process {
	if after == nil && a != nil {
		return a.root
	}
	return after
}

// publish tells a kill, with the root of its tree: the record stands for itself.
func (c *Controller) publish(kill wire.Kill, root *wire.Process) {
	c.tracer.PublishOnLoop(&wire.Event{Type: wire.TypeKill, Process: root, Kill: &kill})
}

// outline is a decision's kill that did not come to anything.
func (c *Controller) outline(d *policy.Decision) wire.Kill {
	kill := outline(&enforce.Request{KillID: c.nextID(), Rule: d.Rule, Mode: d.Mode, Scope: d.Scope, Verdict: d.Verdict,
		Grace: d.Grace, Targets: c.targets(d.Targets)})
	c.addLeak(&kill, d.Leak, c.tracer.DescribeOnLoop(d.Root))
	return kill
}

func outline(req *enforce.Request) wire.Kill {
	kill := wire.Kill{KillID: req.KillID, Rule: req.Rule, Mode: req.Mode, Scope: req.Scope, Verdict: req.Verdict,
		GraceSeconds: req.Grace.Seconds(), Processes: []wire.Killed{}}
	for _, t := range req.Targets {
		kill.Processes = append(kill.Processes, wire.Killed{PID: t.ID.PID, StartNS: t.ID.Start, Comm: t.Comm,
			Outcome: wire.OutcomeWouldKill, RSSBytes: t.RSS, SwapBytes: t.Swap})
	}
	return kill
}

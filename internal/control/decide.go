// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// decide carries out decisions that were just made. On the loop, between two records.
func (c *Controller) decide(decisions []policy.Decision) {
	if len(decisions) == 0 {
		return
	}
	mark := c.tracer.MarkOnLoop()
	c.sortByMemory(decisions)
	c.sortLast(decisions)
	for i := range decisions {
		d := &decisions[i]
		switch {
		case d.Action == policy.ActionNotify:
			c.notify(d)
		case !d.Enforces():
			c.submit(c.engine, d, mark, &killInFlight{})
		default:
			c.carryOut(d, mark)
		}
	}
}

// Memory is short where so much of it is used, or where somebody waits for it for so much of
// the time, in percent.
const (
	shortMemory   = 90
	shortPressure = 10
)

// sortByMemory puts the largest trees first where memory is short: a budget may not suffice
// for all.
func (c *Controller) sortByMemory(decisions []policy.Decision) {
	if !(c.host.MemoryPercent >= shortMemory || c.host.MemoryPressure >= shortPressure) { // NaN is neither
		return
	}
	slices.SortStableFunc(decisions, func(a, b policy.Decision) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
}

// carryOut ends what d names, once all of its tree that nobody has read is read. The
// decision was made by the engine of now, at the mark.
func (c *Controller) carryOut(d *policy.Decision, mark trace.Mark) {
	var unread []event.ID
	for i := range d.Spared {
		if d.Spared[i].Unread {
			unread = append(unread, d.Spared[i].ID)
		}
	}
	if len(unread) == 0 {
		c.spend(c.engine, d, mark)
		return
	}
	engine := c.engine
	c.tracer.ReadNow(unread, func() {
		d.Targets, d.Spared = engine.Targets(c.bind(), d)
		if d.Enforces() {
			c.spend(engine, d, trace.Mark{}) // by now the rule may not hold
		} else {
			engine.Defer(d, 0)
		}
	})
}

// OnRead is the tracer's hook: programs and marks were read of processes that rules have
// spared until now.
func (c *Controller) OnRead(ids []event.ID) {
	c.decide(c.engine.EvaluateOrphans(c.bind(), &c.host, ids, boottime.Now()))
}

// busyRetry is how soon a tree is looked at again that is being ended already.
const busyRetry = time.Second

// spend submits a kill if the budget allows it now, else when it will. A tree is ended once,
// whoever asks for it, and paid for once.
func (c *Controller) spend(engine *policy.Engine, d *policy.Decision, mark trace.Mark) {
	now := boottime.Now()
	isBusy := func(root event.ID) bool { return c.killOf(root) != nil }
	switch {
	case !engine.DeferTrees(c.bind(), d, now+uint64(busyRetry), isBusy) || !d.Enforces():
		return
	case !c.queue.Room(userOf(d), len(d.Targets)):
		engine.Defer(d, now+uint64(busyRetry))
		return
	case c.decidedBack(d):
		engine.Defer(d, 0) // should somebody let the rule go on
		return
	case c.comesTooEarly(d, now):
		engine.Defer(d, now+uint64(lastRetry))
		return
	}
	grant := c.grantToday(d.Rule, now)
	if grant.OK {
		grant = c.budget.Take(now, d.Leak, userOf(d), c.stopped())
	}
	if grant.OK {
		delete(c.refusalsPublished, refusalOf(d, false))
		delete(c.refusalsPublished, refusalOf(d, true))
		c.recovered(d.Rule)
		c.submit(engine, d, mark, &killInFlight{armed: true})
		return
	}
	engine.Defer(d, grant.RetryAt)
	key := refusalOf(d, grant.Exhausted)
	if c.refusalsPublished[key] {
		return
	}
	if len(c.refusalsPublished) > maxRefusals {
		clear(c.refusalsPublished)
	}
	c.refusalsPublished[key] = true
	kill := c.outline(d)
	kill.Outcome, kill.Reason = wire.KillBudget, grant.Why
	root := c.tracer.DescribeOnLoop(d.Root)
	c.notifyOrDefer(func() { c.publish(kill, root) })
	if grant.Exhausted {
		c.exhausted(d.Rule, grant.Why)
	}
}

// maxRefusals bounds the refusals that are known to have been told.
const maxRefusals = 1 << 16

// exhausted raises the alert on a budget that is used up, once until it recovers.
func (c *Controller) exhausted(rule, why string) {
	if _, told := c.exhaustedSince[rule]; told {
		return
	}
	now := time.Now()
	c.exhaustedSince[rule] = now
	c.alert(wire.Alert{Name: "budget:" + rule, State: wire.AlertWarning, Previous: wire.AlertOK, Since: now,
		Message: "rule " + rule + ": " + why})
}

// recovered takes that alert back.
func (c *Controller) recovered(rule string) {
	since, told := c.exhaustedSince[rule]
	if !told {
		return
	}
	delete(c.exhaustedSince, rule)
	c.alert(wire.Alert{Name: "budget:" + rule, State: wire.AlertOK, Previous: wire.AlertWarning, Since: time.Now(),
		Message: fmt.Sprintf("rule %s may end trees again, after %s", rule, time.Since(since).Round(time.Second))})
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// OnLeaseEnd is the tracer's hook: the holder of a lease has died, and what it
// leaves is leaked by its own declaration. The built-in rule ends it; neither warm-up
// nor budget holds it back, the stop file does.
func (c *Controller) OnLeaseEnd(l lease.Lease) {
	list, unsure, others := c.leaseMembers(c.bind(), l, nil)
	if len(unsure) == 0 {
		c.endMembers(l, list, others)
		return
	}
	// An environment is not read on the loop: it may block.
	c.tracer.ReadNow(unsure, func() { c.endLease(l) })
}

// endLease has the members of an ended lease ended. On the loop.
func (c *Controller) endLease(l lease.Lease) {
	list, _, others := c.leaseMembers(c.bind(), l, nil)
	c.endMembers(l, list, others)
}

// endMembers has those listed ended. Others are kills that end somebody whom the lease
// reaches, too: what they leave is looked at when they are done. There is no second kill below
// one that runs, or the leases of a deep tree would each hold all that is below.
func (c *Controller) endMembers(l lease.Lease, list []policy.Target, others []*killInFlight) {
	if len(others) > 0 {
		others[0].leases = append(others[0].leases, l)
	}
	if len(list) == 0 {
		return
	}
	mark := c.tracer.MarkOnLoop()
	req := enforce.Request{
		KillID:  c.nextID(),
		Rule:    config.LeaseRule,
		Mode:    wire.ModeEnforce,
		Scope:   wire.ScopeTree,
		Verdict: wire.VerdictLeaked,
		Reason:  fmt.Sprintf("the holder of the lease, pid %d, is dead", l.Holder.PID),
		Grace:   l.Grace,
		UID:     l.UID,
		Root:    list[0].ID, // who is told of as the one that was ended
		Targets: c.targets(list),
	}
	if why := c.stopped(); why != "" {
		kill := outline(&req)
		kill.Outcome, kill.Reason = wire.KillBudget, why
		c.publish(kill, c.tracer.DescribeOnLoop(req.Root))
		return
	}
	if err := c.start(req, list, mark, &killInFlight{lease: &l, armed: true}); errors.Is(err, enforce.ErrFull) || errors.Is(err, enforce.ErrBusy) {
		c.waiting = append(c.waiting, l)
	}
}

// endWaiting tries again to end the leases that found the queue full.
func (c *Controller) endWaiting() {
	if len(c.waiting) == 0 {
		return
	}
	waiting := c.waiting
	c.waiting = nil
	for _, l := range waiting {
		c.endLease(l)
	}
}

// leaseMembers is who a lease reaches: the holder's living descendants, by observed
// lineage only, without those whose owner says to keep them, protected ones, and those
// that the holder's user could not have signalled, each with its descendants. Unsure
// are those, left out as well, of which it is not known whether they say so. Who is being
// ended by other kills than own is left to them.
func (c *Controller) leaseMembers(v *view, l lease.Lease, own *killInFlight) (list []policy.Target, unsure []event.ID, others []*killInFlight) {
	if c.leaseExempt(l.Holder) != "" {
		return nil, nil, nil
	}
	var visit func(event.ID) bool
	visit = func(id event.ID) bool {
		var p policy.Process
		t, ok := v.tree.Get(id)
		switch {
		case !ok || t.Lineage != tracker.LineageObserved || !v.Process(id, &p):
			return true
		case c.tracer.Leases().Stays(l.Holder, id):
			return true
		case p.Dead:
		case c.otherKillOf(id, own) != nil:
			others = append(others, c.killOf(id))
			return true
		case !t.MarksKnown || t.Unread:
			unsure = append(unsure, id)
			return true
		case c.leaseSpares(&t, &p, l) != "":
			return true
		default:
			list = append(list, policy.TargetOf(&p))
		}
		v.Children(id, visit)
		return true
	}
	v.Children(l.Holder, visit)
	return list, unsure, others
}

// leaseSpares says why the lease leaves a living process alone, with its descendants, or
// nothing.
func (c *Controller) leaseSpares(t *tracker.Process, p *policy.Process, l lease.Lease) string {
	switch {
	case p.Keep:
		return "its environment says ABOT_TRACE_KEEP=1"
	case l.Marked && !t.Leash:
		return "its environment does not carry the holder's ABOT_TRACE_LEASH=1"
	case c.engine.Protection().Reason(p) != "":
		return "it is protected: " + c.engine.Protection().Reason(p)
	case l.ReachesAll():
		return ""
	case !p.KnowsUIDs():
		return "whose it is could not be read"
	case !l.Reaches(p.UIDs):
		return "the holder's user could not have signalled it"
	}
	return ""
}

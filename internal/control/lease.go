// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// OnLeaseEnd is the tracer's hook: the holder of a lease has died, and what it
// leaves is leaked by its own declaration. The built-in rule ends it; neither warm-up
// nor budget holds it back, the stop file does.
func (c *Controller) OnLeaseEnd(l trace.Lease) {
	if c.stopped() {
		return
	}
	list := c.leaseMembers(c.bind(), l)
	if len(list) == 0 {
		return
	}
	c.start(enforce.Request{
		KillID:  c.nextID(),
		Rule:    config.Reserved,
		Mode:    policy.ModeEnforce,
		Scope:   policy.ScopeTree,
		Verdict: wire.VerdictLeaked,
		Reason:  fmt.Sprintf("the holder of the lease, pid %d, is dead", l.Holder.PID),
		Grace:   l.Grace,
		Root:    l.Holder,
		Targets: targets(list),
	}, &act{lease: &l})
}

// leaseMembers is who a lease reaches: the holder's living descendants, by observed
// lineage only, without those whose owner says to keep them, protected ones, and those
// that the holder's user could not have signalled.
func (c *Controller) leaseMembers(v *view, l trace.Lease) []policy.Target {
	var list []policy.Target
	var visit func(event.ID)
	visit = func(id event.ID) {
		var p policy.Process
		if !v.Process(id, &p) {
			return
		}
		if !p.Dead {
			if c.leaseSpares(v, &p, l) {
				return
			}
			list = append(list, policy.Target{ID: p.ID, Comm: p.Comm, Cmdline: p.Cmdline, UID: p.UID, Unit: p.Unit,
				RSS: p.RSS, Swap: p.Swap, MemoryKnown: p.MemoryKnown})
		} else if !p.Observed {
			return
		}
		v.Children(id, func(child event.ID) bool {
			visit(child)
			return true
		})
	}
	v.Children(l.Holder, func(child event.ID) bool {
		visit(child)
		return true
	})
	return list
}

// leaseSpares reports whether the lease leaves p alone, with its descendants.
func (c *Controller) leaseSpares(v *view, p *policy.Process, l trace.Lease) bool {
	t, ok := v.tree.Get(p.ID)
	switch {
	case !ok, p.Keep, t.Lineage.String() != wire.LineageObserved:
		return true
	case !t.MarksKnown:
		// It may be marked to be kept.
		return true
	case l.Marked && !t.Leash:
		return true
	case c.engine.Protection().Reason(p) != "":
		return true
	}
	return !maySignal(l.UID, p)
}

// maySignal reports whether a process of user uid may signal p, as kill(2) has it: it
// is root's, or p's real and saved user ids are its own.
func maySignal(uid uint32, p *policy.Process) bool {
	if uid == 0 {
		return true
	}
	real, saved, err := userIDs(p.ID.PID)
	return err == nil && real == uid && saved == uid
}

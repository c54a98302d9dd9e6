// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// explainLease says what the built-in rule makes of a living process that stands below the
// holder of a lease; false where it stands below none. On the loop.
func (c *Controller) explainLease(id event.ID) (policy.RuleReason, bool) {
	reason := policy.RuleReason{Name: config.LeaseRule}
	v := c.bind()
	l, ended, ok := c.tracer.Leases().Over(id)
	if p, known := v.tree.Get(id); !ok || !known || p.Dead {
		return reason, false
	}
	spared := c.whyLeaseSpares(v, l, id)
	switch {
	case !ended && spared != "":
		reason.Why = fmt.Sprintf("it will outlive pid %d, the holder of a lease: %s", l.Holder.PID, spared)
	case !ended:
		reason.Why = fmt.Sprintf("pid %d, the holder of a lease, lives: it is ended when that one dies", l.Holder.PID)
	case spared != "":
		reason.Why = fmt.Sprintf("pid %d, the holder of a lease, is dead, but %s", l.Holder.PID, spared)
	default:
		reason.Why = fmt.Sprintf("it kills (mode enforce, scope tree): pid %d, the holder of a lease, is dead", l.Holder.PID)
		reason.Applies, reason.Ends = true, true
	}
	return reason, true
}

// whyLeaseSpares says why the lease does not reach the process, or nothing: what spares one
// spares all below it.
func (c *Controller) whyLeaseSpares(v *view, l lease.Lease, id event.ID) string {
	if why := c.leaseExempt(l.Holder); why != "" {
		return why
	}
	line := []event.ID{id}
	for above := range v.tree.Ancestors(id) {
		if above.ID == l.Holder {
			break
		}
		line = append(line, above.ID)
	}
	for _, at := range slices.Backward(line) {
		t, ok := v.tree.Get(at)
		var p policy.Process
		if !ok || !v.Process(at, &p) {
			continue
		}
		why := c.whyLeaseSparesOne(&t, &p, l)
		switch {
		case why == "":
		case at == id:
			return why
		default:
			return fmt.Sprintf("it descends from pid %d (%s), of which is true: %s", at.PID, safetext.Name(t.Comm.String()), why)
		}
	}
	return ""
}

func (c *Controller) whyLeaseSparesOne(t *tracker.Process, p *policy.Process, l lease.Lease) string {
	switch {
	case t.Lineage != tracker.LineageObserved:
		return "who spawned it was not observed"
	case c.tracer.Leases().Stays(l.Holder, t.ID):
		return "the holder named it among those who stay"
	case t.Dead:
		return ""
	case !t.MarksKnown || t.Unread:
		return "its environment could not be read"
	}
	return c.leaseSpares(t, p, l)
}

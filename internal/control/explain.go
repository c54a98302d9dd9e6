// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Explain says of a process what speaks for which verdict, of each rule whether it
// applies, why, and when it acts, and of a dead one which rule ended it. The built-in rule
// for leases is among them where the process stands below the holder of one. cfg brings other
// rules than the controller's; nil keeps those. From any goroutine.
func (c *Controller) Explain(ctx context.Context, cfg *config.Config, pid int32) (*wire.Explain, error) {
	stopReason := ""
	if stop := c.StopFile(); stop != nil && stop.Reason != "" {
		stopReason = " (" + stop.Reason + ")"
	}
	// A process that was made a moment ago is known, too.
	if err := c.tracer.DoDrained(ctx, func(*tracker.Tree) {}); err != nil {
		return nil, err
	}
	p, err := c.tracer.Process(ctx, pid)
	if err != nil {
		return nil, err
	}
	out := &wire.Explain{Process: *p, Evidence: []string{}, Rules: []wire.ExplainRule{}}
	if p.Orphan != nil {
		out.Evidence = p.Orphan.Evidence
	}
	id := event.ID{PID: p.PID, Start: p.StartNS}
	if p.Orphan != nil && p.State == wire.StateRunning {
		if _, err := c.readHeld(ctx, []event.ID{id}); err != nil {
			return nil, err
		}
	}
	var refused error
	err = c.tracer.DoDrained(ctx, func(tree *tracker.Tree) {
		if q, ok := tree.Get(id); ok && q.LeftLineage {
			out.Evidence = append(slices.Clone(out.Evidence), describe.LeftLineage) // the tree's own
		}
		engine := c.engine
		if cfg != nil {
			if engine, refused = c.newEngine(cfg); refused != nil {
				return
			}
		}
		now := boottime.Now()
		for _, r := range engine.Explain(c.bind(), &c.host, id, now) {
			out.Rules = append(out.Rules, c.explained(r, now, stopReason))
		}
		if r, ok := c.explainLease(id); ok {
			out.Rules = append(out.Rules, c.explained(r, now, stopReason))
		}
	})
	if err == nil {
		err = refused
	}
	if err == nil && p.State == wire.StateDead {
		out.EndedBy, err = c.endedBy(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	if p.State == wire.StateRunning {
		out.Holds = c.Holds(ctx, []event.ID{id})
	}
	return out, nil
}

// explained is a rule's reason for the wire; stopReason is why somebody has called off all
// kills. On the loop.
func (c *Controller) explained(r policy.RuleReason, now uint64, stopReason string) wire.ExplainRule {
	rule := wire.ExplainRule{Name: r.Name, Applies: r.Applies, Why: r.Why}
	switch {
	case r.Applies && r.Ends && c.stopped() != "":
		rule.Why = "held back by the stop file " + c.spec.StopFile + stopReason + "; without it: " + r.Why
	case r.ActsAt != 0:
		at := time.Now().Add(time.Duration(int64(r.ActsAt) - int64(now)))
		rule.ActsAt = &at
	}
	return rule
}

// endedBy returns the last remembered kill that signalled a process, nil for none.
func (c *Controller) endedBy(ctx context.Context, id event.ID) (*wire.Kill, error) {
	kills, err := c.tracer.Recent(ctx, []string{wire.TypeKill}, id.Start)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(kills) {
		for _, p := range e.Kill.Processes {
			if p.PID == id.PID && p.StartNS == id.Start && p.Outcome != wire.OutcomeWouldKill {
				return e.Kill, nil
			}
		}
	}
	return nil, nil
}

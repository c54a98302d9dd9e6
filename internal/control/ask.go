// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Explain says of a process what speaks for which verdict, and of each rule whether
// it applies, why, and when it acts. From any goroutine.
func (c *Controller) Explain(ctx context.Context, pid int32) (*wire.Explain, error) {
	p, err := c.tracer.Process(ctx, pid)
	if err != nil {
		return nil, err
	}
	out := &wire.Explain{Process: *p, Evidence: []string{}, Rules: []wire.ExplainRule{}}
	if p.Orphan != nil {
		out.Evidence = p.Orphan.Evidence
	}
	id := event.ID{PID: p.PID, Start: p.StartNS}
	err = c.tracer.Fresh(ctx, func(*tracker.Tree) {
		now := trace.BootNow()
		for _, r := range c.engine.Explain(c.bind(), &c.host, id, now) {
			rule := wire.ExplainRule{Name: r.Name, Applies: r.Applies, Why: r.Why}
			if r.ActsAt != 0 {
				at := time.Now().Add(time.Duration(int64(r.ActsAt) - int64(now)))
				rule.ActsAt = &at
			}
			out.Rules = append(out.Rules, rule)
		}
	})
	return out, err
}

// Pass evaluates every rule once, now, as if the daemon had just come to it. With
// enforce, what the armed rules decide is carried out, within the budget, and waited
// for; the rest is only observed. cfg replaces the controller's configuration for the
// pass; nil keeps it. step, unless nil, is told of each kill as it is done. From any
// goroutine.
func (c *Controller) Pass(ctx context.Context, cfg *config.Config, enforce bool, step func(wire.Kill)) ([]wire.Kill, error) {
	results := make(chan wire.Kill, killWaiting)
	var waiting int
	var kills []wire.Kill
	var passErr error
	err := c.tracer.Fresh(ctx, func(*tracker.Tree) {
		engine, err := c.fresh(cfg)
		if err != nil {
			passErr = err
			return
		}
		decisions := engine.Evaluate(c.bind(), &c.host, trace.BootNow())
		for i := range decisions {
			d := &decisions[i]
			if d.Action != policy.ActionKill || waiting == killWaiting {
				continue
			}
			outcome := wire.KillObserved
			if enforce && d.Enforces() {
				if grant := c.budget.Take(trace.BootNow(), c.stopped()); !grant.OK {
					kill := c.outline(d)
					kill.Outcome, kill.Reason = wire.KillBudget, grant.Why
					kills = append(kills, kill)
					continue
				}
				outcome = ""
			}
			waiting++
			c.submit(engine, d, outcome, func(k wire.Kill) { results <- k })
		}
	})
	if err == nil {
		err = passErr
	}
	if err != nil {
		return nil, err
	}
	for range waiting {
		select {
		case k := <-results:
			kills = append(kills, k)
			if step != nil {
				step(k)
			}
		case <-ctx.Done():
			return kills, fmt.Errorf("clean-up: %w", ctx.Err())
		}
	}
	return kills, nil
}

// fresh returns an engine that has not acted yet.
func (c *Controller) fresh(cfg *config.Config) (*policy.Engine, error) {
	if cfg == nil {
		cfg = c.cfg
	}
	engine, err := cfg.Engine(c.opt.OneShot)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return engine, nil
}

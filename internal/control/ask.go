// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Pass evaluates every rule once, now, as if the daemon had just come to it, so that
// what must hold for some time does not hold yet. With enforce, what the armed rules
// decide is carried out, one tree after the other: the pause between two is waited
// for, the rest of the budget holds back as ever. All else is only observed. cfg
// replaces the controller's configuration for the pass; nil keeps it. step, unless
// nil, is told of each kill as it is done, and of how many there are. From any
// goroutine. by is who asked for it, nil for the one who runs us.
func (c *Controller) Pass(ctx context.Context, cfg *config.Config, enforce bool, by *wire.Requester, step func(k wire.Kill, of int)) ([]wire.Kill, error) {
	type plan struct {
		engine    *policy.Engine
		decisions []policy.Decision
		err       error
	}
	if err := c.readForPass(ctx, cfg); err != nil {
		return nil, err
	}
	planned := make(chan plan, 1)
	err := c.tracer.DoDrained(ctx, func(*tracker.Tree) {
		var p plan
		if p.engine, p.err = c.newEngine(cfg); p.err == nil {
			p.engine.ActAtOnce()
			p.decisions = p.engine.Evaluate(c.bind(), &c.host, boottime.Now())
			c.sortLast(p.decisions)
		}
		planned <- p
	})
	if err != nil {
		return nil, err
	}
	p := <-planned
	if p.err != nil {
		return nil, p.err
	}
	decisions := slices.DeleteFunc(p.decisions, func(d policy.Decision) bool { return d.Action != policy.ActionKill })
	var kills []wire.Kill
	for i := range decisions {
		if haveEnded(kills, decisions[i].Roots()) {
			continue
		}
		k, err := c.runDecision(ctx, p.engine, &decisions[i], enforce, by)
		if err != nil {
			return kills, fmt.Errorf("clean-up: %w", err)
		}
		if k == nil || slices.ContainsFunc(kills, func(other wire.Kill) bool { return other.KillID == k.KillID }) {
			continue
		}
		kills = append(kills, *k)
		if step != nil {
			step(*k, len(decisions))
		}
	}
	return kills, nil
}

// readForPass reads what the rules of a pass look at of processes.
func (c *Controller) readForPass(ctx context.Context, cfg *config.Config) error {
	asked := make(chan []event.ID, 1)
	err := c.tracer.DoDrained(ctx, func(*tracker.Tree) {
		engine, err := c.newEngine(cfg)
		if err != nil || !engine.AsksHeld() {
			asked <- nil // the pass itself tells of the error
			return
		}
		engine.ActAtOnce()
		engine.Evaluate(c.bind(), &c.host, boottime.Now())
		asked <- c.view.takeAsked()
	})
	if err != nil {
		return err
	}
	if ids := <-asked; len(ids) > 0 {
		_, err = c.readHeld(ctx, ids)
	}
	return err
}

// haveEnded reports whether all of the processes are dead after the kills.
func haveEnded(kills []wire.Kill, ids []event.ID) bool {
	return !slices.ContainsFunc(ids, func(id event.ID) bool {
		return !slices.ContainsFunc(kills, func(k wire.Kill) bool { return hasEnded(&k, id) })
	})
}

// hasEnded reports whether the process is dead after the kill.
func hasEnded(k *wire.Kill, id event.ID) bool {
	return slices.ContainsFunc(k.Processes, func(p wire.Killed) bool {
		dead := p.Outcome == wire.OutcomeDied || p.Outcome == wire.OutcomeZombie || p.Outcome == wire.OutcomeVanished
		return dead && p.PID == id.PID && p.StartNS == id.Start
	})
}

// runDecision carries out one decision of a pass and waits for what comes of it. It returns
// nil where there is nothing left to do, and the kill of another who was at it already.
func (c *Controller) runDecision(ctx context.Context, engine *policy.Engine, d *policy.Decision, enforce bool, by *wire.Requester) (*wire.Kill, error) {
	result := make(chan *wire.Kill, 1)
	armed := enforce && d.Enforces()
	for {
		retry := make(chan time.Duration, 1)
		err := c.tracer.DoDrained(ctx, func(*tracker.Tree) { retry <- c.tryDecision(engine, d, armed, by, result) })
		if err != nil {
			return nil, err
		}
		wait := <-retry
		if wait == 0 {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case k := <-result:
		return k, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tryDecision submits a decision of a pass, or returns how long the pause before it lasts.
// On the loop.
func (c *Controller) tryDecision(engine *policy.Engine, d *policy.Decision, armed bool, by *wire.Requester, result chan<- *wire.Kill) time.Duration {
	tell := func(k wire.Kill) { result <- &k }
	if other, all := c.killOfTrees(d); other != nil && armed {
		if !all {
			return otherKillRetry
		}
		other.done = append(other.done, tell)
		return 0
	}
	if ok, _ := engine.Holds(c.bind(), &c.host, d, boottime.Now()); !ok {
		result <- nil // somebody has ended it since, or it has changed
		return 0
	}
	if !armed {
		c.submit(engine, d, trace.Mark{}, &killInFlight{asked: true, requestedBy: by, done: []func(wire.Kill){tell}})
		return 0
	}
	now := boottime.Now()
	grant := c.budget.Take(now, d.Leak, userOf(d), c.stopped())
	if pause := time.Duration(grant.RetryAt - now); !grant.OK && grant.RetryAt > now && !grant.Exhausted && pause <= c.spec.Pause {
		return pause
	}
	if !grant.OK {
		kill := c.outline(d)
		kill.Outcome, kill.Reason, kill.RequestedBy = wire.KillBudget, grant.Why, by
		tell(kill)
		return 0
	}
	c.submit(engine, d, trace.Mark{}, &killInFlight{armed: true, asked: true, requestedBy: by, done: []func(wire.Kill){tell}})
	return 0
}

// otherKillRetry is how soon a decision of a pass is looked at again of which another kill ends
// a part.
const otherKillRetry = 50 * time.Millisecond

// killOfTrees returns a kill that is ending one of d's trees just now, nil for none, and
// whether it ends all of them.
func (c *Controller) killOfTrees(d *policy.Decision) (kill *killInFlight, all bool) {
	all = true
	for _, root := range d.Roots() {
		switch a := c.killOf(root); {
		case a == nil:
			all = false
		case kill == nil:
			kill = a
		case kill != a:
			all = false
		}
	}
	return kill, all
}

// newEngine returns an engine that has not acted yet.
func (c *Controller) newEngine(cfg *config.Config) (*policy.Engine, error) {
	if cfg == nil {
		cfg = c.cfg
	}
	engine, err := cfg.Engine(c.opt.OneShot)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	c.view.noteNeeds(engine)
	return engine, nil
}

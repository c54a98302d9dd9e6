// SPDX-License-Identifier: Apache-2.0

// Package control joins what the tracer sees to what the policy decides and to what
// enforcement does: it evaluates rules when something changes, asks the budget,
// submits kills, and tells what came of them.
//
//	orphan, sample, deadline -> policy -> budget -> enforce -> kill event
//	lease ended ------------------------------------^
//
// Engine, budget and view belong to the tracer's loop; kills run on goroutines of
// their own, and ask back through the loop.
package control

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// How many kills run at a time, and how many may wait.
const (
	killWorkers = 16
	killWaiting = 256
)

// Options of New.
type Options struct {
	// Journal remembers who is stopped; nil means that nobody is stopped before the end.
	Journal enforce.Journal
	// Identity tells exact starts; the probe's task iterator.
	Identity enforce.Identity
	// Owners is asked about units before a signal; nil where there is no service manager.
	Owners trace.Owners
	Log    *slog.Logger
	// OneShot says that the tracer began just now: see policy.Options.
	OneShot bool
	// OnAlert is told when a budget is used up. It must not block.
	OnAlert func(wire.Alert)
}

// A Controller acts for the rules of one configuration at a time. Make it with New,
// give it to the tracer's hooks, and close it.
type Controller struct {
	opt    Options
	tracer *trace.Tracer
	view   *view
	cfg    *config.Config
	engine *policy.Engine
	budget *policy.Budget
	spec   policy.BudgetSpec
	host   policy.Host
	queue  *enforce.Queue
	enf    *enforce.Enforcer

	acts  map[string]*act // by kill id, while they run
	kills uint64
	told  map[heldBack]bool // budget refusals that were told
	wall  int64             // last offset of the wall clock, to notice steps
}

// heldBack is a rule that its budget keeps from a tree.
type heldBack struct {
	rule string
	root event.ID
}

// An act is one decision or ended lease being carried out.
type act struct {
	decision *policy.Decision // nil for a lease
	engine   *policy.Engine   // whose decision it is
	lease    *trace.Lease
	memo     memo
	done     func(wire.Kill) // nil, or who waits for it
}

// New returns a controller without rules. Call Configure on the loop, or before the
// tracer runs.
func New(opt Options) *Controller {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	c := &Controller{
		opt:  opt,
		host: policy.UnknownHost(),
		acts: make(map[string]*act),
		told: make(map[heldBack]bool),
	}
	return c
}

// Attach binds the controller to its tracer, before that runs.
func (c *Controller) Attach(t *trace.Tracer) {
	c.tracer = t
	c.view = newView(t)
	c.enf = &enforce.Enforcer{Identity: c, Tree: c, Protector: c, Journal: c.opt.Journal}
	c.queue = enforce.NewQueue(killWorkers, killWaiting, c.enf.Do, c.report)
}

// Close calls off what runs, thawing what is stopped, and waits for it. Before the
// tracer stops.
func (c *Controller) Close() { c.queue.Close() }

// Configure changes the rules. What holds for rules that stay the same is kept. On the
// loop, or before the tracer runs.
func (c *Controller) Configure(cfg *config.Config) error {
	engine, err := cfg.Engine(c.opt.OneShot)
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	if c.engine != nil {
		engine.Inherit(c.engine)
	}
	c.cfg, c.engine, c.spec = cfg, engine, cfg.BudgetSpec()
	if c.budget == nil {
		c.budget = policy.NewBudget(c.spec, trace.BootNow())
	} else {
		c.budget.Reconfigure(c.spec)
	}
	return nil
}

// bind gives the view the tree, which is the loop's to touch.
func (c *Controller) bind() *view {
	c.view.tree = c.tracer.TreeHere()
	return c.view
}

// OnEvent is the tracer's hook for notable events.
func (c *Controller) OnEvent(e *wire.Event) {
	switch {
	case e.Type == wire.TypeResync:
		c.budget.Hold("resync", trace.BootNow())
		c.decide(c.engine.Evaluate(c.bind(), &c.host, trace.BootNow()))
	case e.Type == wire.TypeOrphan && e.Process != nil:
		id := event.ID{PID: e.Process.PID, Start: e.Process.StartNS}
		c.decide(c.engine.EvaluateOrphan(c.bind(), &c.host, id, trace.BootNow()))
	}
}

// OnTick is the tracer's hook after each look at the ring: ages that are reached act
// at their very instant.
func (c *Controller) OnTick() uint64 {
	now := trace.BootNow()
	c.noticeStep(now)
	at, ok := c.engine.NextDeadline()
	if !ok {
		return 0
	}
	if at > now {
		return at
	}
	c.decide(c.engine.Due(c.bind(), &c.host, now))
	at, _ = c.engine.NextDeadline()
	return max(at, now+uint64(time.Millisecond))
}

// clockStep is how far the wall clock must jump to be called stepped.
const clockStep = int64(2 * time.Second)

// noticeStep holds kills for the warm-up when somebody sets the clock: what people
// wrote in terms of it may not mean what it did.
func (c *Controller) noticeStep(now uint64) {
	offset := time.Now().UnixNano() - int64(now)
	if c.wall != 0 && (offset-c.wall > clockStep || c.wall-offset > clockStep) {
		c.budget.Hold("step of the clock", now)
		c.opt.Log.Warn("the clock was set: kills pause for the warm-up", "by", time.Duration(offset-c.wall))
	}
	c.wall = offset
}

// OnSample takes new figures: a pass over the processes and the host's. On the loop.
func (c *Controller) OnSample(pass *sample.Pass, host policy.Host) {
	c.view.pass, c.host = pass, host
	c.decide(c.engine.Evaluate(c.bind(), &c.host, trace.BootNow()))
}

// decide carries out decisions. On the loop.
func (c *Controller) decide(decisions []policy.Decision) {
	for i := range decisions {
		d := &decisions[i]
		switch {
		case d.Action == policy.ActionNotify:
			c.notify(d)
		case !d.Enforces():
			c.submit(c.engine, d, wire.KillObserved, nil)
		default:
			c.spend(d)
		}
	}
}

// spend submits a kill if the budget allows it now, else when it will.
func (c *Controller) spend(d *policy.Decision) {
	now := trace.BootNow()
	key := heldBack{d.Rule, d.Root}
	grant := c.budget.Take(now, c.stopped())
	if grant.OK {
		delete(c.told, key)
		c.submit(c.engine, d, "", nil)
		return
	}
	c.engine.Defer(d, grant.RetryAt)
	if c.told[key] {
		return
	}
	if len(c.told) > maxDetails {
		clear(c.told)
	}
	c.told[key] = true
	kill := c.outline(d)
	kill.Outcome = wire.KillBudget
	kill.Reason = grant.Why
	c.publish(kill)
	if grant.Exhausted && c.opt.OnAlert != nil {
		c.opt.OnAlert(wire.Alert{Name: "budget:" + d.Rule, State: wire.AlertWarning, Since: time.Now(),
			Message: "rule " + d.Rule + ": " + grant.Why})
	}
}

// stopped reports whether an operator has called off all kills by the stop file.
func (c *Controller) stopped() bool {
	if c.spec.StopFile == "" {
		return false
	}
	_, err := os.Lstat(c.spec.StopFile)
	// Whatever is wrong with it, somebody may have meant to stop us.
	return !errors.Is(err, os.ErrNotExist)
}

func (c *Controller) notify(d *policy.Decision) {
	if c.opt.OnAlert == nil {
		return
	}
	c.opt.OnAlert(wire.Alert{Name: "rule:" + d.Rule, State: wire.AlertWarning, Since: time.Now(),
		Message: fmt.Sprintf("rule %s matches the tree of %d: %s", d.Rule, d.Root.PID, joinReasons(d.Reasons))})
}

// submit queues the kill. mode observe is forced where the outcome is to be no more
// than observed.
func (c *Controller) submit(engine *policy.Engine, d *policy.Decision, outcome string, done func(wire.Kill)) {
	mode := d.Mode
	if outcome == wire.KillObserved {
		mode = policy.ModeObserve
	}
	req := enforce.Request{
		KillID:  c.nextID(),
		Rule:    d.Rule,
		Mode:    mode,
		Scope:   d.Scope,
		Verdict: d.Verdict,
		Reason:  reason(d),
		Grace:   d.Grace,
		Root:    d.Root,
		Targets: targets(d.Targets),
	}
	c.start(req, &act{decision: d, engine: engine, done: done})
}

func (c *Controller) start(req enforce.Request, a *act) {
	if req.Mode == policy.ModeEnforce {
		// The whole story before the first signal, so that one line tells it.
		c.opt.Log.Warn("ending a process tree", "kill_id", req.KillID, "rule", req.Rule, "pid", req.Root.PID,
			"start", req.Root.Start, "verdict", req.Verdict, "processes", len(req.Targets), "reason", req.Reason)
	}
	c.acts[req.KillID] = a
	err := c.queue.Submit(req)
	if err == nil {
		return
	}
	delete(c.acts, req.KillID)
	if a.decision != nil && !errors.Is(err, enforce.ErrClosed) {
		a.engine.Defer(a.decision, trace.BootNow()+uint64(time.Second))
	}
	if a.done != nil {
		kill := wire.Kill{KillID: req.KillID, Rule: req.Rule, Mode: req.Mode, Scope: req.Scope, Verdict: req.Verdict,
			GraceSeconds: req.Grace.Seconds(), Processes: []wire.Killed{}, Outcome: wire.KillPartial, Reason: err.Error()}
		a.done(kill)
	}
}

func (c *Controller) nextID() string {
	c.kills++
	return fmt.Sprintf("%s-k%d", c.tracer.IDPrefix(), c.kills)
}

// report tells what came of a kill. On one of the queue's goroutines.
func (c *Controller) report(req enforce.Request, kill wire.Kill) {
	finish := func() {
		a := c.acts[req.KillID]
		delete(c.acts, req.KillID)
		if req.Mode == policy.ModeEnforce && c.budget != nil {
			c.budget.Rest(trace.BootNow())
		}
		c.publish(kill)
		if a != nil && a.done != nil {
			a.done(kill)
		}
	}
	c.tracer.Post(finish)
}

func (c *Controller) publish(kill wire.Kill) {
	c.tracer.PublishHere(&wire.Event{Type: wire.TypeKill, Kill: &kill})
}

// outline is a kill that did not come to anything.
func (c *Controller) outline(d *policy.Decision) wire.Kill {
	kill := wire.Kill{KillID: c.nextID(), Rule: d.Rule, Mode: d.Mode, Scope: d.Scope, Verdict: d.Verdict,
		GraceSeconds: d.Grace.Seconds(), Processes: []wire.Killed{}}
	for _, t := range targets(d.Targets) {
		kill.Processes = append(kill.Processes, wire.Killed{PID: t.ID.PID, StartNS: t.ID.Start, Comm: t.Comm,
			Outcome: wire.OutcomeWouldKill, RSSBytes: t.RSS, SwapBytes: t.Swap})
	}
	return kill
}

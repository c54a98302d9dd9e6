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
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/holds"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// queueBounds are what kills may take, of which half of the descriptors that this process may
// have open.
func queueBounds() enforce.Bounds {
	b := enforce.Bounds{AtOnce: 64, Waiting: 1024, Kills: 64, Descriptors: 512}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		b.Descriptors = int(min(limit.Cur, 1<<20)) / 2
	}
	return b
}

// Tasks tells of processes as the kernel has them now. From any goroutine.
type Tasks interface {
	enforce.Identity
	// Usage returns all of them.
	Usage() ([]event.Task, error)
}

// Options of New.
type Options struct {
	// Journal remembers who is stopped; nil means that nobody is stopped before the end.
	Journal enforce.Journal
	// Tasks is the kernel's list of processes: the probe.
	Tasks Tasks
	// Owners is asked about units before a signal; nil where there is no service manager.
	Owners evidence.Owners
	Log    *slog.Logger
	// OneShot says that the tracer began just now: see policy.Options.
	OneShot bool
	// OnAlert is told when a budget is used up. It must not block.
	OnAlert func(wire.Alert)
	// Trust is what was decided about fingerprints, nil where nobody can. It belongs to the
	// loop. TrustChanged is called on the loop when the controller has changed it.
	Trust        *trust.Book
	TrustChanged func()
	// Later runs fn on the loop in its turn, when what is urgent is done; nil is at once.
	Later func(fn func())
}

// A Controller acts for the rules of one configuration at a time. Make it with New,
// give it to the tracer's hooks, and close it.
type Controller struct {
	opt      Options
	tracer   *trace.Tracer
	view     *view
	cfg      *config.Config
	engine   *policy.Engine
	budget   *policy.Budget
	spec     policy.BudgetSpec
	stopFile stopFile
	// stopAnswers looks for the same file for those who ask.
	stopAnswers stopAnswers
	host        policy.Host
	holds       holdsReader
	readingHeld bool // what rules have asked for is being read
	queue       *enforce.Queue
	enf         *enforce.Enforcer

	killsInFlight     map[string]*killInFlight // by kill id, while they run
	recentKills       map[killKey]recentKill
	kills             uint64
	waiting           []lease.Lease          // ended, and the queue was full
	refusalsPublished map[budgetRefusal]bool // budget refusals that were told
	exhaustedSince    map[string]time.Time   // rules whose budget is used up, since when
	wall              int64                  // last offset of the wall clock, to notice steps
	firstSignalsSent  []enforce.Request      // have their first signals, and are to be handed on
	deferNotices      bool                   // nobody was told yet of the orphans that are decided upon
	deferredNotices   []func()
}

// A holdsReader reads what one process holds: see [holds.Reader].
type holdsReader interface {
	Read(ctx context.Context, id event.ID, uid uint32) (holds.Held, error)
}

// budgetRefusal is a rule that its budget keeps from a leak, or from a tree that belongs to
// none.
type budgetRefusal struct {
	rule      string
	leak      string
	root      event.ID
	exhausted bool // the minute's number is used up; else it is only a pause
}

func refusalOf(d *policy.Decision, exhausted bool) budgetRefusal {
	r := budgetRefusal{rule: d.Rule, leak: d.Leak, exhausted: exhausted}
	if d.Leak == "" {
		r.root = d.Root
	}
	return r
}

// A killInFlight is one decision or ended lease being carried out. It belongs to the loop.
type killInFlight struct {
	decision *policy.Decision // nil for a lease, and for what somebody asks for by hand
	engine   *policy.Engine   // whose decision it is
	lease    *lease.Lease
	manual   *ManualKill // what somebody has asked for; nil of a rule or a lease
	aim      aim         // of manual
	lapsed   bool        // its rule was found not to hold any more
	armed    bool        // it signals
	asked    bool        // somebody asked for it, and is the only one to be told
	// requestedBy is who did, nil where that is the one who runs us.
	requestedBy *wire.Requester
	members     map[event.ID]bool // all whom it ends or has ended
	done        []func(wire.Kill) // who waits for it
	leases      []lease.Lease     // have ended, and reach who is being ended by it
	root        *wire.Process     // the tree's, as it was before; nil where it is not known
	leak        string            // the id of the leak that it reaches, if any
	// fingerprint is that leak's.
	fingerprint string

	incomplete bool // records were missing when it was looked at last
}

// note adds members to those whom the kill ends.
func (a *killInFlight) note(members []policy.Target) {
	if a.members == nil {
		a.members = make(map[event.ID]bool, len(members))
	}
	for i := range members {
		a.members[members[i].ID] = true
	}
}

// killOf returns the kill that is ending the process just now, nil for none.
func (c *Controller) killOf(id event.ID) *killInFlight {
	for _, a := range c.killsInFlight {
		if a.armed && a.members[id] {
			return a
		}
	}
	return nil
}

// otherKillOf returns a kill other than own that is ending the process just now; nil for none,
// and where own does.
func (c *Controller) otherKillOf(id event.ID, own *killInFlight) *killInFlight {
	if own != nil && own.members[id] {
		return nil
	}
	return c.killOf(id)
}

// New returns a controller without rules. Call Configure on the loop, or before the
// tracer runs.
func New(opt Options) *Controller {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.TrustChanged == nil {
		opt.TrustChanged = func() {}
	}
	if opt.Later == nil {
		opt.Later = func(fn func()) { fn() }
	}
	return &Controller{
		opt:               opt,
		holds:             new(holds.Reader),
		stopFile:          stopFile{lstat: os.Lstat},
		stopAnswers:       stopAnswers{file: stopFile{lstat: os.Lstat}},
		host:              policy.UnknownHost(),
		killsInFlight:     make(map[string]*killInFlight),
		recentKills:       make(map[killKey]recentKill),
		refusalsPublished: make(map[budgetRefusal]bool),
		exhaustedSince:    make(map[string]time.Time),
	}
}

// Attach binds the controller to its tracer, before that runs.
func (c *Controller) Attach(t *trace.Tracer) {
	c.tracer = t
	c.view = newView(t, newUserIDs(c.opt.Tasks.Usage))
	c.view.trust = c.opt.Trust
	c.enf = &enforce.Enforcer{Journal: c.opt.Journal}
	c.queue = enforce.NewQueue(queueBounds(), c.enf.Do, c.report)
}

// closeTimeout bounds the wait for the loop at the end.
const closeTimeout = 2 * time.Second

// Close calls off what runs, thawing what is stopped, waits for it, and sees it told.
// Before the tracer stops.
func (c *Controller) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := c.tracer.Do(ctx, func(*tracker.Tree) { c.resumeKills() }); errors.Is(err, trace.ErrStopped) {
		c.resumeKills() // there is no loop any more
	}
	c.queue.Close()
	// What was reported stands in the loop's queue; this stands behind it.
	_ = c.tracer.Do(ctx, func(*tracker.Tree) {})
}

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
	c.stopAnswers.setPath(c.spec.StopFile)
	if c.opt.OneShot {
		// A start is all that there is to it, and somebody asks for it to act now.
		c.spec.WarmUp = 0
	}
	if c.budget == nil {
		c.budget = policy.NewBudget(c.spec, boottime.Now())
	} else {
		c.budget.Reconfigure(c.spec)
	}
	return nil
}

// bind gives the view the tree, which is the loop's to touch.
func (c *Controller) bind() *view {
	c.view.ours, c.view.sums = nil, nil
	c.view.tree = c.tracer.TreeOnLoop()
	c.view.noteNeeds(c.engine)
	return c.view
}

// OnEvent is the tracer's hook for notable events.
func (c *Controller) OnEvent(e *wire.Event) {
	switch {
	case e.Type == wire.TypeLost && e.Lost.Where == "":
		// From here to the end of the resync the tree is known to be incomplete.
		c.budget.Hold("loss of records", boottime.Now())
	case e.Leak != nil:
		c.noteLeak(e.Leak)
	case e.Type == wire.TypeResync:
		c.budget.Hold("resync", boottime.Now())
		c.decide(c.engine.Evaluate(c.bind(), &c.host, boottime.Now()))
	}
}

// OnOrphans is the tracer's hook for orphans that were just judged. They are told of
// after it, and so what it has to tell waits for OnTick.
func (c *Controller) OnOrphans(ids []event.ID) {
	c.deferNotices = true
	defer func() { c.deferNotices = false }()
	c.decide(c.engine.EvaluateOrphans(c.bind(), &c.host, ids, boottime.Now()))
}

// waitingRetry is how soon a lease that found the queue full is tried again.
const waitingRetry = 100 * time.Millisecond

// notifyOrDefer tells something, after the orphans that it is about.
func (c *Controller) notifyOrDefer(fn func()) {
	if c.deferNotices {
		c.deferredNotices = append(c.deferredNotices, fn)
		return
	}
	fn()
}

func (c *Controller) flushNotices() {
	for _, fn := range c.deferredNotices {
		fn()
	}
	c.deferredNotices = nil
}

// OnTick is the tracer's hook after each look at the ring: ages that are reached act
// at their very instant.
func (c *Controller) OnTick() uint64 {
	c.flushNotices()
	now := boottime.Now()
	c.noticeStep(now)
	c.endWaiting()
	at, ok := c.engine.NextDeadline()
	if ok && at <= now {
		c.decide(c.engine.Due(c.bind(), &c.host, now))
		at, ok = c.engine.NextDeadline()
	}
	c.readAsked()
	if retry := now + uint64(waitingRetry); len(c.waiting) > 0 && (!ok || retry < at) {
		at, ok = retry, true
	}
	if !ok {
		return 0
	}
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
	c.SetSample(pass, host)
	c.decide(c.engine.Evaluate(c.bind(), &c.host, boottime.Now()))
}

// SetSample is OnSample without consequences. On the loop.
func (c *Controller) SetSample(pass *sample.Pass, host policy.Host) { c.view.pass, c.host = pass, host }

func (c *Controller) alert(a wire.Alert) {
	if c.opt.OnAlert != nil {
		c.notifyOrDefer(func() { c.opt.OnAlert(a) })
	}
}

// ExhaustedOnLoop names the rules whose budget is used up. On the loop.
func (c *Controller) ExhaustedOnLoop() []string { return slices.Sorted(maps.Keys(c.exhaustedSince)) }

// HeldOnLoop returns what no rule ends anything after for the present, and until when,
// CLOCK_BOOTTIME ns; nothing where nothing holds them.
func (c *Controller) HeldOnLoop() (why string, until uint64) { return c.budget.Held(boottime.Now()) }

// stopped returns why no kill may begin, where an operator has called off all by the stop file,
// or may have; else it is empty.
func (c *Controller) stopped() string {
	if c.spec.StopFile == "" {
		return ""
	}
	return c.stopFile.hold(c.spec.StopFile)
}

func (c *Controller) notify(d *policy.Decision) {
	c.alert(wire.Alert{Name: "rule:" + d.Rule, State: wire.AlertWarning, Since: time.Now(),
		Message: fmt.Sprintf("rule %s matches %s: %s", d.Rule, treesOf(d), joinReasons(d.Reasons))})
}

// treesOf names the trees of a decision.
func treesOf(d *policy.Decision) string {
	if len(d.Trees) > 1 {
		return fmt.Sprintf("%d trees of the leak %s", len(d.Trees), d.Leak)
	}
	return fmt.Sprintf("the tree of %d", d.Root.PID)
}

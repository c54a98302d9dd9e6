// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A ManualKill is what somebody asks to be ended, beside all rules. Neither budget nor
// warm-up holds it back. It goes the way of every kill: by pidfd, verified, and never upon
// what is protected.
type ManualKill struct {
	// PID is a living process, or a dead one whose leak is meant; 0 where Leak is set.
	PID int32
	// StartNS is when the process with the pid began, CLOCK_BOOTTIME ns. Only PlanKill takes
	// 0, which is whoever has the pid.
	StartNS uint64
	Leak    string // the id of a leak
	// Scope is wire.ScopeProcess or wire.ScopeTree. A leak is ended whole.
	Scope  string
	Signal unix.Signal // the first; 0 is SIGTERM
	Grace  time.Duration
	// By is who asks. Unless its user is root, it reaches whom that user could signal.
	By wire.Requester
	// DespiteStopFile has it done although somebody has called off all kills.
	DespiteStopFile bool

	// owned says of processes in reach why the service manager's word protects them.
	owned map[event.ID]string
}

// ManualFault says what kind of refusal a [ManualError] is.
type ManualFault int

// The faults.
const (
	NotThere  ManualFault = iota // there is no such process or leak
	Unfit                        // it is another process, or has ended, or is one of several
	Forbidden                    // it is protected, or another user's
	Stopped                      // the stop file is in force
	Busy                         // too many kills are under way
)

// A ManualError is a refusal of a whole ManualKill.
type ManualError struct {
	Fault ManualFault
	Text  string
}

func (e *ManualError) Error() string { return e.Text }

func refuse(fault ManualFault, format string, args ...any) error {
	return &ManualError{fault, fmt.Sprintf(format, args...)}
}

// PlanKill says whom the kill would end and whom it would leave alone, and why; nobody is
// signalled. From any goroutine. Its error is a *ManualError where there is no such thing.
func (c *Controller) PlanKill(ctx context.Context, m ManualKill) (*wire.KillPlan, error) {
	type answer struct {
		plan *wire.KillPlan
		err  error
	}
	answers := make(chan answer, 1)
	if err := c.askOwners(ctx, &m); err != nil {
		return nil, err
	}
	err := c.onceRead(ctx, m, func() {
		plan, err := c.planManual(m)
		answers <- answer{plan, err}
	})
	if err != nil {
		return nil, err
	}
	select {
	case a := <-answers:
		return a.plan, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Kill carries it out and waits until every death is verified; when ctx ends it goes on
// without waiting. From any goroutine. Its error is a *ManualError where nobody was signalled.
func (c *Controller) Kill(ctx context.Context, m ManualKill) (*wire.Kill, error) {
	results := make(chan manualResult, 1)
	if err := c.askOwners(ctx, &m); err != nil {
		return nil, err
	}
	err := c.onceRead(ctx, m, func() { c.startManual(m, func(r manualResult) { results <- r }) })
	if err != nil {
		return nil, err
	}
	select {
	case r := <-results:
		return r.kill, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// manualResult is what came of a ManualKill.
type manualResult struct {
	kill *wire.Kill
	err  error
}

// askOwners asks the service manager about all whom the kill reaches: who is refused just
// before its signal must not lose its children first.
func (c *Controller) askOwners(ctx context.Context, m *ManualKill) error {
	if c.opt.Owners == nil {
		return nil
	}
	var targets []policy.Target
	err := c.tracer.DoDrained(ctx, func(*tracker.Tree) {
		if aim, err := c.aim(m); err == nil {
			targets = c.manualReach(c.bind(), m, aim, nil).targets
		}
	})
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m.owned = make(map[event.ID]string)
	for i := range targets {
		if why := c.ownedBy(ctx, targets[i].ID.PID); why != nil {
			m.owned[targets[i].ID] = why.Error()
		}
	}
	return err
}

// onceRead calls fn on the loop when the marks of all whom the kill reaches have been read,
// as far as they can be.
func (c *Controller) onceRead(ctx context.Context, m ManualKill, fn func()) error {
	return c.tracer.DoDrained(ctx, func(*tracker.Tree) {
		aim, err := c.aim(&m)
		if err != nil {
			fn() // meets it again
			return
		}
		if reach := c.manualReach(c.bind(), &m, aim, nil); len(reach.unread) > 0 {
			c.tracer.ReadNow(reach.unread, fn)
			return
		}
		fn()
	})
}

// startManual begins the kill, and has done told on the loop what came of it, once.
func (c *Controller) startManual(m ManualKill, done func(manualResult)) {
	kill := func(k wire.Kill) { done(manualResult{kill: &k}) }
	if why := c.stopped(); why != "" && !m.DespiteStopFile {
		done(manualResult{err: refuse(Stopped, "%s", why)})
		return
	}
	aim, err := c.aim(&m)
	if err != nil {
		done(manualResult{err: err})
		return
	}
	reach := c.manualReach(c.bind(), &m, aim, nil)
	if len(reach.targets) == 0 && len(reach.others) > 0 {
		reach.others[0].done = append(reach.others[0].done, kill)
		return
	}
	if err := reach.refusal(aim); err != nil {
		done(manualResult{err: err})
		return
	}
	req := c.manualRequest(&m, aim, reach.targets)
	err = c.start(req, reach.targets, trace.Mark{}, &killInFlight{manual: &m, requestedBy: &m.By, aim: aim, armed: true, done: []func(wire.Kill){kill}})
	switch {
	case errors.Is(err, enforce.ErrBusy), errors.Is(err, enforce.ErrFull):
		done(manualResult{err: refuse(Busy, "%v: try again", err)})
	case err != nil:
		done(manualResult{err: err})
	}
}

func (c *Controller) manualRequest(m *ManualKill, aim aim, targets []policy.Target) enforce.Request {
	root := targets[0].ID
	what := fmt.Sprintf("the tree of %d", aim.root.PID)
	switch {
	case aim.leak != "":
		what = "leak " + aim.leak
	case m.Scope == wire.ScopeProcess:
		what = fmt.Sprintf("process %d", aim.root.PID)
	}
	req := enforce.Request{KillID: c.nextID(), Rule: config.ManualRule, Mode: wire.ModeEnforce, Scope: m.Scope,
		Reason: fmt.Sprintf("%s asked to end %s", requester(&m.By), what), Grace: m.Grace, Signal: m.Signal, UID: m.By.UID,
		Root: root, Targets: c.targets(targets)}
	var p policy.Process
	if c.view.Process(root, &p) && p.Orphan {
		req.Verdict = p.Verdict
	}
	return req
}

// requester names who asks.
func requester(by *wire.Requester) string {
	if by.PID == 0 {
		return fmt.Sprintf("user %d", by.UID)
	}
	return fmt.Sprintf("pid %d (%s) of user %d", by.PID, by.Comm, by.UID)
}

// endManualRest goes on with those whose programs or marks nobody had read in time.
func (c *Controller) endManualRest(a *killInFlight) {
	if reach := c.manualReach(c.bind(), a.manual, a.aim, nil); len(reach.unread) > 0 {
		c.tracer.ReadNow(reach.unread, func() { c.startManual(*a.manual, func(manualResult) {}) })
	}
}

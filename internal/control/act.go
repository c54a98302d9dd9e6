// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// How long what the loop said of a kill serves its other processes: they are asked
// about one after the other within it, each before its signal. In a large tree the
// answer takes long, and so it serves some times as long.
const (
	memoFor    = 2 * time.Millisecond
	memoFactor = 4
	memoMost   = 50 * time.Millisecond
)

// asking is what a kill has asked so far. It belongs to the kill's goroutine.
type asking struct {
	memo     *memo
	measured map[event.ID]bool
}

// A memo is what the loop last said of a kill. It does not change.
type memo struct {
	until   time.Time
	sig     unix.Signal
	members map[event.ID]bool
	refusal error // of the kill as a whole
}

func (m *memo) serves(sig unix.Signal) bool {
	return m != nil && m.sig == sig && time.Now().Before(m.until)
}

// Starts implements enforce.Identity. Where the records are whole, the tree tells: a
// pid whose exit has not been recorded by now, after its pidfd was opened, is still
// the same process. Else the kernel's task list is asked.
func (c *Controller) Starts(pids []int32) (map[int32]uint64, error) {
	starts := make(map[int32]uint64, len(pids))
	whole := false
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	err := c.tracer.Fresh(ctx, func(tree *tracker.Tree) {
		whole = c.tracer.Whole()
		for _, pid := range pids {
			if id, ok := tree.Lookup(pid); ok {
				starts[pid] = id.Start
			}
		}
	})
	if err == nil && whole {
		return starts, nil
	}
	return c.opt.Identity.Starts(pids)
}

// askTimeout bounds a question to the loop.
const askTimeout = 5 * time.Second

// Members implements enforce.Tree.
func (c *Controller) Members(ctx context.Context, req *enforce.Request) ([]enforce.Target, error) {
	var members []enforce.Target
	err := c.tracer.Fresh(ctx, func(*tracker.Tree) {
		if a := c.acts[req.KillID]; a != nil {
			members = targets(c.members(a))
		}
	})
	if err != nil {
		return nil, err // and the loop may be writing to members yet
	}
	c.measure(req, members)
	return members, nil
}

// measure asks procfs for the memory of those that are younger than the last sample:
// what is freed is to be told. On the kill's goroutine.
func (c *Controller) measure(req *enforce.Request, list []enforce.Target) {
	ask, ok := c.asking.Load(req.KillID)
	if !ok {
		return
	}
	measured := ask.(*asking).measured
	for i := range list {
		t := &list[i]
		if t.RSS != nil || measured[t.ID] {
			continue
		}
		measured[t.ID] = true
		if status, err := readStatus(t.ID); err == nil {
			t.RSS, t.Swap = &status.RSS, &status.Swap
		}
	}
}

func readStatus(id event.ID) (procfs.Status, error) {
	p, err := procfs.FS{}.OpenID(id)
	if err != nil {
		return procfs.Status{}, err
	}
	defer p.Close()
	return p.Status()
}

// members is who is to be ended now. On the loop.
func (c *Controller) members(a *act) []policy.Target {
	v := c.bind()
	if a.lease != nil {
		list, _ := c.leaseMembers(v, *a.lease)
		return list
	}
	targets, _ := a.engine.Targets(v, a.decision)
	return targets
}

// errLapsed says that a kill has lost its reason before its first signal.
var errLapsed = errors.New("the rule no longer holds")

// errSpared says that one process does not belong to the kill any more.
var errSpared = errors.New("it is spared by now, or dead")

// Recheck implements enforce.Tree: the rule must still hold before the first signal,
// and the process must still be one of the tree's that nothing spares, before each.
// What happened before the call is taken into account, to within memoMost.
func (c *Controller) Recheck(ctx context.Context, req *enforce.Request, id event.ID, sig unix.Signal) error {
	loaded, ok := c.asking.Load(req.KillID)
	if !ok {
		return errLapsed
	}
	ask := loaded.(*asking)
	if !ask.memo.serves(sig) {
		answer := make(chan *memo, 1)
		err := c.tracer.Fresh(ctx, func(*tracker.Tree) { answer <- c.check(req, sig) })
		if err != nil {
			return err
		}
		ask.memo = <-answer
	}
	switch {
	case ask.memo.refusal != nil:
		return ask.memo.refusal
	case !ask.memo.members[id]:
		return errSpared
	}
	return nil
}

// check looks at a kill as a whole. On the loop. That its rule holds is asked before
// the first signal only: those after it change what the rule looks at.
func (c *Controller) check(req *enforce.Request, sig unix.Signal) *memo {
	began := time.Now()
	m := &memo{until: began.Add(memoFor), sig: sig, members: make(map[event.ID]bool)}
	a := c.acts[req.KillID]
	if a == nil {
		m.refusal = errLapsed
		return m
	}
	if c.stopped() && req.Mode == policy.ModeEnforce {
		a.lapsed = true
		m.refusal = fmt.Errorf("the stop file %s exists", c.spec.StopFile)
		return m
	}
	v := c.bind()
	if !a.begun && a.decision != nil {
		if ok, why := a.engine.Holds(v, &c.host, a.decision, trace.BootNow()); !ok {
			a.lapsed = true
			m.refusal = fmt.Errorf("%w: %s", errLapsed, why)
			return m
		}
	}
	a.begun = true
	for _, t := range c.members(a) {
		m.members[t.ID] = true
	}
	m.until = began.Add(min(memoMost, max(memoFor, memoFactor*time.Since(began))))
	return m
}

// Protected implements enforce.Protector. What the tree knows was looked at by
// Recheck just before; here is what has to be asked outside.
func (c *Controller) Protected(t enforce.Target) error {
	adj, err := oomScoreAdj(t.ID.PID)
	if err != nil {
		return fmt.Errorf("oom_score_adj is not known: %w", err)
	}
	if adj <= -1000 {
		return errors.New("its oom_score_adj is -1000")
	}
	if c.opt.Owners == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	state, err := c.opt.Owners.Unit(ctx, t.ID.PID)
	if err != nil {
		return fmt.Errorf("its unit is not known: %w", err)
	}
	if state.MainPID == t.ID.PID {
		return errors.New("it is the main process of an active unit")
	}
	return nil
}

// targets converts what the policy names to what enforcement ends.
func targets(list []policy.Target) []enforce.Target {
	out := make([]enforce.Target, 0, len(list))
	for i := range list {
		t := &list[i]
		e := enforce.Target{ID: t.ID, Comm: t.Comm, Last: enforce.ResourceTracker(strings.Fields(t.Cmdline))}
		if t.MemoryKnown {
			e.RSS, e.Swap = &t.RSS, &t.Swap
		}
		out = append(out, e)
	}
	return out
}

func reason(d *policy.Decision) string {
	s := joinReasons(d.Reasons)
	if d.Withheld != "" {
		s += "; withheld: " + d.Withheld
	}
	return s
}

func joinReasons(reasons []string) string { return strings.Join(reasons, "; ") }

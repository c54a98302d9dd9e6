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
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// memoFor is how long what the loop said of a kill serves its other processes: they
// are asked about one after the other within it, each before its signal.
const memoFor = 2 * time.Millisecond

// A memo is what the loop last said of a kill. It belongs to the kill's goroutine.
type memo struct {
	at      time.Time
	sig     unix.Signal
	members map[event.ID]bool
	refusal error // of the kill as a whole
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
	return members, err
}

// members is who is to be ended now. On the loop.
func (c *Controller) members(a *act) []policy.Target {
	v := c.bind()
	if a.lease != nil {
		return c.leaseMembers(v, *a.lease)
	}
	targets, _ := a.engine.Targets(v, a.decision)
	return targets
}

// errUnsure says that what speaks for a process could not be found out.
var errUnsure = errors.New("the rule no longer holds")

// Recheck implements enforce.Tree: the rule must still hold before the first signal,
// and the process must still be one of the tree's that nothing spares, before each.
func (c *Controller) Recheck(ctx context.Context, req *enforce.Request, id event.ID, sig unix.Signal) error {
	var m memo
	err := c.tracer.Do(ctx, func(*tracker.Tree) {
		a := c.acts[req.KillID]
		if a == nil {
			m.refusal = errUnsure
			return
		}
		if a.memo.sig != sig || time.Since(a.memo.at) > memoFor {
			first := a.memo.at.IsZero()
			a.memo = c.check(a, first, req.Root)
			a.memo.sig = sig
		}
		m = a.memo
	})
	switch {
	case err != nil:
		return err
	case m.refusal != nil:
		return m.refusal
	case !m.members[id]:
		return errors.New("it is spared by now, or dead")
	}
	return nil
}

// check looks at a kill as a whole. On the loop. That its rule holds is asked before
// the first signal only: those after it change what the rule looks at.
func (c *Controller) check(a *act, first bool, root event.ID) memo {
	now := trace.BootNow()
	m := memo{at: time.Now(), members: make(map[event.ID]bool)}
	if c.stopped() {
		m.refusal = fmt.Errorf("the stop file %s exists", c.spec.StopFile)
		return m
	}
	v := c.bind()
	if first && a.decision != nil {
		if ok, why := a.engine.Holds(v, &c.host, a.decision, now); !ok {
			m.refusal = fmt.Errorf("%w: %s", errUnsure, why)
			return m
		}
	}
	for _, t := range c.members(a) {
		m.members[t.ID] = true
	}
	if first && a.decision != nil && a.decision.Scope == policy.ScopeProcess {
		m.members[root] = true
	}
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

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// How long what the loop said of a kill serves its other processes: they are asked
// about one after the other within it, each before its signal. In a large tree the
// answer takes long, and so it serves some times as long.
const (
	cacheFor    = 2 * time.Millisecond
	cacheFactor = 4
	cacheMax    = 50 * time.Millisecond
)

// authorizer answers for one kill, and keeps what the loop said of it. It belongs to the
// loop first, and then to the kill's goroutine.
type authorizer struct {
	*Controller
	cache    *membersCache
	begun    []event.ID        // roots of trees to which a signal was permitted, and the loop was not told
	told     map[event.ID]bool // all of them
	patience time.Time         // how long records that were lost are waited for; zero before any were
	isOnLoop bool              // on the loop
	heldRead bool              // what its rule looks at was read anew
}

// A membersCache is what the loop last said of a kill.
type membersCache struct {
	mark    trace.Mark // of the tree that was looked at
	until   time.Time
	list    []enforce.Target // who is to be ended
	members map[event.ID]policy.Target
	refusal error // of the kill as a whole
}

// maxHeld is how many processes of a tree have their pidfds opened on the loop.
const maxHeld = 64

// prepare spares the kill its first questions: it opens the pidfds of the targets and
// then, with all applied that has happened until now, looks at them once more. They were
// decided upon at the mark. On the loop, between two records.
func (c *Controller) prepare(req *enforce.Request, list []policy.Target, decided trace.Mark) *authorizer {
	k := &authorizer{Controller: c}
	if a := c.killsInFlight[req.KillID]; len(req.Targets) > maxHeld || a != nil && a.asksHeld() {
		return k
	}
	req.Held = enforce.Hold(req.Targets)
	mark := c.tracer.DrainOnLoop()
	tree := c.tracer.TreeOnLoop()
	req.Keep(func(id event.ID) bool { return mark.Complete() && tree.Has(id) })
	if mark == decided {
		k.cache = newMembersCache(mark, list, req.Targets)
	} else {
		k.cache = c.check(req, nil)
	}
	return k
}

func newMembersCache(mark trace.Mark, members []policy.Target, list []enforce.Target) *membersCache {
	m := &membersCache{mark: mark, until: time.Now().Add(cacheFor), list: list, members: make(map[event.ID]policy.Target, len(list))}
	for i := range members {
		m.members[members[i].ID] = members[i]
	}
	return m
}

func (m *membersCache) has(id event.ID) bool {
	_, ok := m.members[id]
	return ok
}

// Starts implements enforce.Identity. Where the records are whole, the tree tells: a
// pid whose exit has not been recorded by now, after its pidfd was opened, is still
// the same process. Else the kernel's task list is asked.
func (k *authorizer) Starts(pids []int32) (map[int32]uint64, error) {
	starts := make(map[int32]uint64, len(pids))
	whole := false
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	err := k.onLoop(ctx, func(tree *tracker.Tree) {
		whole = k.tracer.Complete()
		for _, pid := range pids {
			if id, ok := tree.Lookup(pid); ok {
				starts[pid] = id.Start
			}
		}
	})
	if err == nil && whole {
		return starts, nil
	}
	return k.opt.Tasks.Starts(pids)
}

// onLoop is the tracer's Fresh, from wherever it is called.
func (k *authorizer) onLoop(ctx context.Context, fn func(*tracker.Tree)) error {
	if !k.isOnLoop {
		return k.tracer.DoDrained(ctx, fn)
	}
	k.tracer.DrainOnLoop()
	fn(k.tracer.TreeOnLoop())
	return nil
}

// askTimeout bounds a question to the loop.
const askTimeout = 5 * time.Second

// Members implements enforce.Tree. What it finds out on the way serves the next
// signals, too.
func (k *authorizer) Members(ctx context.Context, req *enforce.Request) ([]enforce.Target, error) {
	if k.cache != nil && k.tracer.Unchanged(k.cache.mark) {
		return k.cache.list, nil
	}
	if err := k.ask(ctx, req, false); err != nil {
		return nil, err
	}
	return k.cache.list, nil
}

// ask has the loop look at the kill as a whole, after everything that has happened
// until now, and notes what it says. Where records were lost, it waits until those who may
// have executed meanwhile are known. With users, whose each process is is asked anew.
func (k *authorizer) ask(ctx context.Context, req *enforce.Request, users bool) error {
	begun := k.begun
	k.begun = nil
	if err := k.readHeldOnce(ctx, req); err != nil {
		return err
	}
	answer := make(chan *membersCache, 1)
	look := func(*tracker.Tree) {
		if users {
			k.view.users.forget()
		}
		answer <- k.check(req, begun)
	}
	for {
		if err := k.onLoop(ctx, look); err != nil {
			return err
		}
		k.cache = <-answer
		if !errors.Is(k.cache.refusal, errIncomplete) || k.isOnLoop || !k.waitForRecords(ctx) {
			return nil
		}
	}
}

// readHeldOnce reads anew what the kill's rule looks at of its trees' roots, before the first
// signal.
func (k *authorizer) readHeldOnce(ctx context.Context, req *enforce.Request) error {
	if k.heldRead || k.isOnLoop {
		return nil
	}
	k.heldRead = true
	roots := make(chan []event.ID, 1)
	err := k.tracer.Do(ctx, func(*tracker.Tree) {
		var ids []event.ID
		if a := k.killsInFlight[req.KillID]; a != nil && a.asksHeld() {
			ids = a.decision.Roots()
		}
		roots <- ids
	})
	if err != nil {
		return err
	}
	if ids := <-roots; len(ids) > 0 {
		_, err = k.readHeld(ctx, ids)
	}
	return err
}

// recordsPause is between two looks whether the loss of records is healed.
const recordsPause = 20 * time.Millisecond

// waitForRecords waits a little, in all askTimeout for one kill, and reports whether it did.
func (k *authorizer) waitForRecords(ctx context.Context) bool {
	now := time.Now()
	if k.patience.IsZero() {
		k.patience = now.Add(askTimeout)
	}
	if now.After(k.patience) {
		return false
	}
	select {
	case <-time.After(recordsPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// members is who is to be ended now. On the loop.
func (c *Controller) members(a *killInFlight) []policy.Target {
	v := c.bind()
	if a.lease != nil {
		list, _, _ := c.leaseMembers(v, *a.lease, a)
		return list
	}
	if a.manual != nil {
		return c.manualReach(v, a.manual, a.aim, a).targets
	}
	targets, _ := a.engine.Targets(v, a.decision)
	return targets
}

// errLapsed says that a kill has lost its reason before its first signal.
var errLapsed = errors.New("the rule no longer holds")

// errIncomplete says that nobody knows what some processes have executed.
var errIncomplete = errors.New("records were lost, and not all processes have been looked at since")

// errSpared says that one process does not belong to the kill any more.
var errSpared = errors.New("it is spared by now, or dead")

// Recheck implements enforce.Tree: the rule must still hold before the first signal,
// and the process must still be one of the tree's that nothing spares, before each.
// What happened before the call is taken into account, to within cacheMax; whose the process
// is, where that matters, as it is now.
func (k *authorizer) Recheck(ctx context.Context, req *enforce.Request, id event.ID, _ unix.Signal) error {
	if k.cache == nil || time.Now().After(k.cache.until) {
		if err := k.ask(ctx, req, false); err != nil {
			return err
		}
	}
	if t := k.cache.members[id]; t.UIDsAsked {
		if now, err := k.view.users.read(id); err != nil || now != t.UIDs {
			if err := k.ask(ctx, req, true); err != nil {
				return err
			}
		}
	}
	if k.cache.refusal != nil {
		return k.cache.refusal
	}
	if !k.cache.has(id) {
		return errSpared
	}
	k.begin(k.cache.members[id].Tree)
	return nil
}

// begin notes that a signal to one of this tree was permitted.
func (k *authorizer) begin(root event.ID) {
	if k.told[root] {
		return
	}
	if k.told == nil {
		k.told = make(map[event.ID]bool)
	}
	k.told[root] = true
	k.begun = append(k.begun, root)
}

// check looks at a kill as a whole, of which trees have begun. On the loop. That its rule
// holds is asked of each tree before its first signal only: those after it change what the
// rule looks at.
func (c *Controller) check(req *enforce.Request, begun []event.ID) *membersCache {
	began := time.Now()
	m := newMembersCache(c.tracer.MarkOnLoop(), nil, nil)
	a := c.killsInFlight[req.KillID]
	if a == nil {
		m.refusal = errLapsed
		return m
	}
	if req.Mode == wire.ModeEnforce && (a.manual == nil || !a.manual.DespiteStopFile) {
		if why := c.stopped(); why != "" {
			a.lapsed = true
			m.refusal = errors.New(why)
			return m
		}
	}
	if a.incomplete = !c.tracer.Complete(); a.incomplete {
		m.refusal = errIncomplete
		return m
	}
	v := c.bind()
	if a.decision != nil {
		a.decision.Begin(begun)
		if ok, why := a.engine.Holds(v, &c.host, a.decision, boottime.Now()); !ok {
			a.lapsed = true
			m.refusal = fmt.Errorf("%w: %s", errLapsed, why)
			return m
		}
	}
	members := c.members(a)
	a.note(members)
	m = newMembersCache(m.mark, members, c.targets(members))
	m.until = began.Add(min(cacheMax, max(cacheFor, cacheFactor*time.Since(began))))
	return m
}

// Protected implements enforce.Protector. What the tree knows was looked at by
// Recheck just before; here is what has to be asked outside.
func (k *authorizer) Protected(t enforce.Target) error {
	read := func(id event.ID) (int, error) { return procfs.FS{}.OOMScoreAdj(id.PID) }
	if k.isOnLoop {
		read = k.view.oomAdj
	}
	adj, err := read(t.ID)
	if err != nil {
		return fmt.Errorf("oom_score_adj is not known: %w", err)
	}
	if adj <= -1000 {
		return errors.New("its oom_score_adj is -1000")
	}
	if k.opt.Owners == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	return k.ownedBy(ctx, t.ID.PID)
}

// ownedBy says why the service manager's word protects a process, nil if it does not. There
// is a service manager. Not on the loop.
func (c *Controller) ownedBy(ctx context.Context, pid int32) error {
	state, err := c.opt.Owners.Unit(ctx, pid)
	if err != nil {
		return fmt.Errorf("its unit is not known: %w", err)
	}
	switch pid {
	case state.MainPID:
		return errors.New("it is the main process of an active unit")
	case state.ControlPID:
		return errors.New("it is a control process of its unit")
	}
	return nil
}

// targets converts what the policy names to what enforcement ends. On the loop.
func (c *Controller) targets(list []policy.Target) []enforce.Target {
	out := make([]enforce.Target, 0, len(list))
	for i := range list {
		t := &list[i]
		e := enforce.Target{ID: t.ID, Comm: t.Comm, Last: isResourceTracker(c.tracer.TreeOnLoop(), t.ID)}
		if t.MemoryKnown {
			e.RSS, e.Swap = &t.RSS, &t.Swap
		}
		out = append(out, e)
	}
	return out
}

func reason(d *policy.Decision) string {
	s := joinReasons(d.Reasons)
	if d.Blocker != "" {
		s += "; withheld: " + d.Blocker
	}
	return s
}

func joinReasons(reasons []string) string { return strings.Join(reasons, "; ") }

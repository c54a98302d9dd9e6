// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// UnitState is what the service manager says of the unit that a process is in.
type UnitState struct {
	MainPID  int32 // of the active unit; 0 without one
	Starting bool
	KillMode string
}

// An Owners asks the service manager. It may be slow, and it may fail.
type Owners interface {
	// Unit returns the state of the unit that the process is in.
	Unit(ctx context.Context, pid int32) (UnitState, error)
}

// asyncTimeout bounds the questions that can block: an environment behind a process's
// memory lock, a service manager that does not answer. No answer is no proof.
const asyncTimeout = 500 * time.Millisecond

// Bounds on such questions: how many are under way, and how many wait for their turn.
const (
	maxAsync   = 64 // also of those that were given up and still block
	maxWaiting = 8192
)

var errBusy = errors.New("too many questions at once")

// asyncRunner runs what can block beside the loop, a bounded number at a time. It belongs to
// the loop.
type asyncRunner struct {
	running int
	waiting []func()
}

// runAsync runs fn in a goroutine, now or when others are done, and reports whether it
// ever will. fn must end with a post of what is to follow.
func (t *Tracer) runAsync(fn func()) bool {
	if len(t.async.waiting) == maxWaiting {
		return false
	}
	t.async.waiting = append(t.async.waiting, fn)
	t.startWaiting()
	return true
}

func (t *Tracer) startWaiting() {
	for t.async.running < maxAsync && len(t.async.waiting) > 0 {
		fn := t.async.waiting[0]
		t.async.waiting = t.async.waiting[1:]
		t.async.running++
		go func() {
			fn()
			t.post(func() {
				t.async.running--
				t.startWaiting()
			})
		}()
	}
}

// judge finds the verdict on a direct orphan that was just made, and announces it
// with all that it stranded: at once where what is known suffices, else as soon as
// the slow facts are in.
func (t *Tracer) judge(p *tracker.Process) {
	facts := t.facts(p)
	askMarks := !p.MarksKnown && p.Orphan.Observed
	askUnit := t.owners != nil && facts.Unit != ""
	if !askMarks && !askUnit {
		t.announce(p, facts)
		return
	}
	id := p.ID
	asked := t.runAsync(func() {
		facts := t.ask(id, facts, askMarks, askUnit)
		t.post(func() {
			if facts.MarksKnown {
				t.tree.SetMarks(id, facts.Keep, facts.Leash)
			}
			t.announce(p, facts)
		})
	})
	if !asked {
		facts.Errors = append(facts.Errors, errBusy.Error())
		t.announce(p, facts)
	}
}

// facts gathers what can be known without waiting for anyone.
func (t *Tracer) facts(p *tracker.Process) verdict.Facts {
	o := p.Orphan
	f := verdict.Facts{
		Observed:     o.Observed,
		Lived:        o.Lived,
		AtFork:       p.AtFork,
		AtForkKnown:  p.AtForkKnown,
		AtDeath:      o.AtDeath,
		AtDeathKnown: o.AtDeathKnown,
		AdopterComm:  safetext.Name(o.AdopterComm.String()),
		AdopterKind:  o.AdopterKind,
		MarksKnown:   p.MarksKnown,
		Keep:         p.Keep,
		Leash:        p.Leash,
	}
	_, f.LeaseEnded = t.leases.Ended(p.ID)
	if l := o.Leaker; l != nil {
		f.LeakerPID = l.ID.PID
		f.LeakerComm = safetext.Name(l.Comm.String())
		f.Status, f.StatusKnown, f.OOM = l.End.Status, l.End.Known, l.End.OOM
		if k := l.End.Killer; k != nil && !k.FromKernel {
			f.KilledBy = fmt.Sprintf("pid %d (%s)", k.Sender.PID, safetext.Name(k.SenderComm.String()))
		}
	}
	if !f.AtDeathKnown {
		// A little late: signs of detaching only accumulate, so this errs towards not killing.
		origin, err := t.proc.Origin(p.ID)
		f.AtDeath, f.AtDeathKnown = origin, err == nil
		if err != nil {
			f.Errors = append(f.Errors, fmt.Sprintf("state at the death: %v", err))
		}
	}
	g := t.names.Group(p.ID, p.Cgroup, true)
	if unit := g.UnitName(); unit != "" {
		f.Unit = safetext.Field(unit)
		f.UserService = g.UserService()
	}
	f.ContainerInit = p.NSInit
	f.TmuxServer = t.multiplexer(p)
	f.LoginSession = strings.HasPrefix(g.Unit.Name, "session-") && f.AtDeath.SessionOwn && f.AtDeath.Tty
	return f
}

// rejudge looks once more at a new orphan whose verdict is unknown, when it executes a
// program: it may have been on its way to detach. That can only spare it.
func (t *Tracer) rejudge(id event.ID) {
	p, ok := t.tree.Get(id)
	if !ok || p.Dead || p.Orphan == nil || p.Orphan.Verdict != verdict.Unknown || p.Orphan.Leaker == nil ||
		!p.Orphan.Direct || boottime.Now()-p.Orphan.Since > uint64(verdict.Settles) {
		return
	}
	facts := t.facts(&p)
	origin, err := t.proc.Origin(id)
	if err != nil {
		return
	}
	facts.AtDeath, facts.AtDeathKnown = origin, true
	if v, evidence := verdict.Judge(facts); v == verdict.Deliberate {
		t.tree.SetVerdict(id, v, append(evidence, "it had not done so when its spawner left, but did at once"))
	}
}

// multiplexer reports whether p is a terminal multiplexer's server, or the leader of
// a session that a living one made. What runs below such a session is not the
// multiplexer's own.
func (t *Tracer) multiplexer(p *tracker.Process) bool {
	if isMultiplexer(p) {
		return true
	}
	if !p.Orphan.AtDeath.SessionOwn {
		return false
	}
	spawner, ok := t.tree.Get(p.Spawner)
	return ok && !spawner.Dead && isMultiplexer(&spawner)
}

func isMultiplexer(p *tracker.Process) bool {
	switch path.Base(p.Filename) {
	case "tmux", "screen", "zellij", "dtach", "abduco":
		return true
	}
	return false
}

// ask fetches the facts that may be slow. What does not answer in time is an error,
// which makes the verdict unknown.
func (t *Tracer) ask(id event.ID, f verdict.Facts, marks, unit bool) verdict.Facts {
	ctx, cancel := context.WithTimeout(context.Background(), asyncTimeout)
	defer cancel()
	if marks {
		m, err := within(ctx, &t.blocked, func() (procfs.Marks, error) { return t.readMarks(id) })
		f.MarksKnown, f.Keep, f.Leash = err == nil, m.Keep, m.Leash
		if err != nil {
			f.Errors = append(f.Errors, fmt.Sprintf("environment: %v", err))
		}
	}
	if unit {
		state, err := t.owners.Unit(ctx, id.PID)
		f.MainPID = err == nil && state.MainPID == id.PID
		f.Starting, f.KillMode = state.Starting, state.KillMode
		if err != nil {
			f.Errors = append(f.Errors, fmt.Sprintf("unit %s: %v", f.Unit, err))
		}
	}
	return f
}

// within returns fn's result, or the context's error when that comes first. A read
// that blocks for ever keeps its goroutine and its thread: there is no way to call it
// off. So blocked counts them, and of too many none is begun.
func within[T any](ctx context.Context, blocked *atomic.Int32, fn func() (T, error)) (T, error) {
	var zero T
	if blocked.Add(1) > maxAsync {
		blocked.Add(-1)
		return zero, errBusy
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer blocked.Add(-1)
		v, err := fn()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

func (t *Tracer) readMarks(id event.ID) (procfs.Marks, error) {
	p, err := t.proc.OpenID(id)
	if err != nil {
		return procfs.Marks{}, err
	}
	defer p.Close()
	return p.Marks()
}

// announce records the verdict on an orphan and on all that was stranded with it. They
// are told of soon, as they were then: by now they may be dead, with so many after them
// that the tree has forgotten them.
func (t *Tracer) announce(orphan *tracker.Process, f verdict.Facts) {
	v, evidence := verdict.Judge(f)
	t.tree.SetVerdict(orphan.ID, v, evidence)
	stranded := t.stranded[orphan.ID]
	delete(t.stranded, orphan.ID)
	for i := range stranded {
		// By now its own spawner may be dead too, which takes it out of the orphan's reach.
		if p, ok := t.tree.Get(stranded[i].ID); ok && p.Orphan != nil && p.Orphan.Verdict == "" {
			t.tree.SetVerdict(p.ID, v, evidence)
		}
	}
	t.judged = append(t.judged, judged{orphan, stranded, v, evidence})
}

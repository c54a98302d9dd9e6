// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/slowread"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// asyncTimeout bounds the questions that can block: an environment behind a process's
// memory lock, a service manager that does not answer. No answer is no proof.
const asyncTimeout = 500 * time.Millisecond

// Bounds on such questions: how many are under way, and how many wait for their turn.
const (
	maxAsync   = 64
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
func (g *Gatherer) runAsync(fn func()) bool {
	if len(g.async.waiting) == maxWaiting {
		return false
	}
	g.async.waiting = append(g.async.waiting, fn)
	g.startWaiting()
	return true
}

func (g *Gatherer) startWaiting() {
	for g.async.running < maxAsync && len(g.async.waiting) > 0 {
		fn := g.async.waiting[0]
		g.async.waiting = g.async.waiting[1:]
		g.async.running++
		go func() {
			fn()
			g.post(func() {
				g.async.running--
				g.startWaiting()
			})
		}()
	}
}

// ask fetches the facts that may be slow. What does not answer in time is an error,
// which makes the verdict unknown.
func (g *Gatherer) ask(id event.ID, uid uint32, f verdict.Facts, marks, unit bool) verdict.Facts {
	ctx, cancel := context.WithTimeout(context.Background(), asyncTimeout)
	defer cancel()
	if marks {
		m, err := slowread.Do(ctx, &g.reads, uid, func() (procfs.Marks, error) { return g.readMarks(id) })
		f.MarksKnown, f.Keep, f.Leash = err == nil, m.Keep, m.Leash
		if err != nil {
			f.Errors = append(f.Errors, fmt.Sprintf("environment: %v", err))
		}
	}
	if unit {
		state, err := g.owners.Unit(ctx, id.PID)
		f.MainPID = err == nil && state.MainPID == id.PID
		f.Starting, f.KillMode = state.Starting, state.KillMode
		if err != nil {
			f.Errors = append(f.Errors, fmt.Sprintf("unit %s: %v", f.Unit, err))
		}
	}
	return f
}

func (g *Gatherer) readMarks(id event.ID) (procfs.Marks, error) {
	p, err := g.proc.OpenID(id)
	if err != nil {
		return procfs.Marks{}, err
	}
	defer p.Close()
	return p.Marks()
}

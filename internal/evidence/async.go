// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/otherend"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/slowread"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

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

// userNow asks, beside the loop, whose the process is by now: on that user's account it is
// read. Who has executed as root and is somebody else's since must not keep root's processes
// from being read. Where it cannot be told, that is uid.
func (g *Gatherer) userNow(id event.ID, uid uint32) func() uint32 {
	return func() uint32 {
		p, err := g.proc.OpenID(id)
		if err != nil {
			return uid
		}
		defer p.Close()
		status, err := p.Status() // it needs no lock of the process's
		if err != nil {
			return uid
		}
		return status.UID
	}
}

// userThen is for questions that a process cannot hold up by itself.
func userThen(uid uint32) func() uint32 { return func() uint32 { return uid } }

// put asks one question on somebody's account, beside the loop, and then has take, on the
// loop, note the answer. The orphan is looked at once more with it.
func put[T any](g *Gatherer, c *openCase, account func() uint32, q *question, what string, ask func(context.Context) (T, error), take func(T, error)) {
	*q = waiting
	then := func(v T, err error) {
		*q = answered
		take(v, err)
		g.look(c, what)
	}
	asked := g.runAsync(func() {
		ctx, cancel := context.WithTimeout(context.Background(), asyncTimeout)
		defer cancel()
		v, err := slowread.Do(ctx, &g.reads, account(), func() (T, error) { return ask(ctx) })
		g.post(func() { then(v, err) })
	})
	if !asked {
		*q = answered
		var zero T
		take(zero, errBusy)
	}
}

// ask puts the questions that the verdict on an orphan may hang on.
func (g *Gatherer) ask(c *openCase, p *tracker.Process, f *verdict.Facts, v verdict.Verdict) {
	id := c.id
	if !p.MarksKnown && f.Observed && c.asked.marks == unasked {
		put(g, c, g.userNow(id, p.UID), &c.asked.marks, "what its environment says", func(context.Context) (procfs.Marks, error) { return g.readMarks(id) },
			func(m procfs.Marks, err error) {
				if err == nil {
					g.tree.SetMarks(id, m.Keep, m.Leash)
				}
				c.errors = failed(c.errors, "environment", err)
			})
	}
	if f.Pending.Unit && c.asked.unit == unasked {
		put(g, c, userThen(p.UID), &c.asked.unit, "the word of its manager", func(ctx context.Context) (UnitState, error) { return g.owners.Unit(ctx, id.PID) },
			func(state UnitState, err error) {
				if c.unitError = err; err == nil {
					c.unit = &state
				}
			})
	}
	if f.Pending.Listens && c.asked.listens == unasked {
		put(g, c, userThen(p.UID), &c.asked.listens, "whether it listens", func(context.Context) (bool, error) { return listens(g.proc, id) },
			func(yes bool, err error) { c.listens = answerOf(yes, err) })
	}
	if server, mayBe := g.launchingServer(p, f); mayBe && f.Pending.Client && v.Provisional && c.asked.client == unasked {
		put(g, c, userThen(p.UID), &c.asked.client, "whom it is connected to", func(context.Context) (bool, error) { return otherend.Client(id, server) },
			func(yes bool, err error) { c.client = answerOf(yes, err) })
	}
}

// failed notes a fact that could not be read. That the process is gone is none.
func failed(errs []string, what string, err error) []string {
	if err != nil && !errors.Is(err, procfs.ErrGone) {
		errs = append(errs, fmt.Sprintf("%s: %v", what, err))
	}
	return errs
}

func answerOf(yes bool, err error) verdict.Answer {
	switch {
	case err != nil:
		return verdict.NotAsked
	case yes:
		return verdict.Yes
	}
	return verdict.No
}

// askEnds asks who is at the other ends of the orphan's stdio. The look that had it asked
// is followed by one with the answer.
func (g *Gatherer) askEnds(c *openCase, p *tracker.Process) {
	id := c.id
	put(g, c, userThen(p.UID), &c.asked.ends, "who is at the other ends of its standard input, output and error",
		func(context.Context) ([3]otherend.State, error) { return otherend.Stdio(id) },
		func(states [3]otherend.State, err error) {
			if err != nil {
				return // what is not known is not an answer
			}
			for fd, state := range states {
				switch {
				case c.ends[fd] == verdict.EndNone:
				case state == otherend.Abandoned:
					c.ends[fd] = verdict.EndAbandoned
				case state == otherend.Held:
					c.ends[fd] = verdict.EndHeld
				}
			}
		})
}

func listens(proc procfs.FS, id event.ID) (bool, error) {
	p, err := proc.OpenID(id)
	if err != nil {
		return false, err
	}
	defer p.Close()
	listening, err := p.Listening()
	return len(listening) > 0, err
}

func (g *Gatherer) readMarks(id event.ID) (procfs.Marks, error) {
	p, err := g.proc.OpenID(id)
	if err != nil {
		return procfs.Marks{}, err
	}
	defer p.Close()
	return p.Marks()
}

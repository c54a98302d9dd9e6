// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A pass is what one look at the orphans has found out of what they share. All ancestors
// of a deep tree are shared by everybody below: to walk up to them from each would take
// the square of the depth.
type pass struct {
	view    View
	spared  map[event.ID]string
	above   []map[event.ID]string // by rule: why those below are spared
	lines   []map[event.ID]line   // by rule
	matches map[*spawnedByMatches]map[event.ID]event.ID
	path    []step // scratch of inherit
}

// A step is one ancestor on the way up.
type step struct {
	id        event.ID
	candidate bool
}

// begin makes the engine ready for a look at the view, of which nothing is known yet.
func (e *Engine) begin(view View) {
	e.pass = pass{
		view:    view,
		spared:  make(map[event.ID]string),
		above:   make([]map[event.ID]string, len(e.rules)),
		lines:   make([]map[event.ID]line, len(e.rules)),
		matches: make(map[*spawnedByMatches]map[event.ID]event.ID),
		path:    e.pass.path[:0],
	}
}

// spareOnce is spare, asked at most once in a pass about each process.
func (e *Engine) spareOnce(p *Process) string {
	reason, known := e.pass.spared[p.ID]
	if !known {
		reason = e.spare(p)
		e.pass.spared[p.ID] = reason
	}
	return reason
}

// spareHere says why p is not signalled by r for its own sake, or nothing: for what it is, or
// for whom its leaker could have signalled.
func (e *Engine) spareHere(r *rule, p *Process) string {
	if reason := e.spareOnce(p); reason != "" || p.Dead {
		return reason
	}
	return cmp.Or(r.exempt(p), outOfReach(r, p, leakerOf(p)))
}

// spareOrphan says why the orphan p is not ended by rule i, or nothing: for its own sake, or
// because it is below one that is spared, which is left out with all that it made.
func (e *Engine) spareOrphan(p *Process, i int, r *rule) string {
	if reason := e.spareHere(r, p); reason != "" {
		return reason
	}
	if e.pass.above[i] == nil {
		e.pass.above[i] = make(map[event.ID]string)
	}
	return inherit(&e.pass, e.pass.above[i], p.Spawner,
		func(a *Process) (string, bool) {
			if a.Dead || !a.Orphan {
				return "", true
			}
			why := e.spareHere(r, a)
			if why != "" {
				why = fmt.Sprintf("it descends from pid %d (%s), which is spared: %s", a.ID.PID, a.Comm, why)
			}
			return why, why != ""
		},
		func(_ step, above string) string { return above })
}

// inherit returns what a process has from its line of ancestors, of which the nearest is
// from. own says what an ancestor has of itself, and whether that is the end of it; where it
// is not, hand says what it hands down, given what it has inherited. Known is both read and
// filled, so that nobody is looked at twice; a view with a cycle in it ends there.
func inherit[T any](ps *pass, known map[event.ID]T, from event.ID,
	own func(*Process) (has T, ends bool), hand func(step, T) T) (has T) {
	var a Process
	ps.path = ps.path[:0]
	for id := from; !id.IsZero(); id = a.Spawner {
		v, ok := known[id]
		if ok {
			has = v
			break
		}
		if !ps.view.Process(id, &a) {
			break
		}
		v, ends := own(&a)
		known[id] = v
		if ends {
			has = v
			break
		}
		ps.path = append(ps.path, step{id, isCandidate(&a)})
	}
	for _, s := range slices.Backward(ps.path) {
		has = hand(s, has)
		known[s.id] = has
	}
	return has
}

// A line is what a rule finds at a process or above it, as far as a tree that it ends up
// there would reach down to here.
type line struct {
	covered bool     // it has acted up there
	top     event.ID // the topmost orphan that is ready for it; zero where none is
}

// line is the line above c, by rule i.
func (e *Engine) line(c *candidate, i int, r *rule) line {
	if e.pass.lines[i] == nil {
		e.pass.lines[i] = make(map[event.ID]line)
	}
	up := candidate{engine: e, view: c.view, host: c.host, now: c.now}
	return inherit(&e.pass, e.pass.lines[i], c.p.Spawner,
		func(a *Process) (line, bool) {
			if e.cutsOff(r, a) {
				return line{}, true
			}
			acted := e.acted(i, a.ID)
			return line{covered: acted}, acted
		},
		func(s step, above line) line {
			if above.covered || !above.top.IsZero() || !s.candidate || !up.reset(s.id) {
				return above
			}
			if ready, _ := e.ready(&up, i, r); ready {
				above.top = s.id
			}
			return above
		})
}

// hasActed takes note that rule i has acted on root: what is known of the lines below is
// not true any more.
func (e *Engine) hasActed(i int, root event.ID) {
	if _, below := e.pass.lines[i][root]; below {
		e.pass.lines[i] = nil
	}
}

// cutsOff reports whether a tree that r ends above a leaves a out, and all below it.
func (e *Engine) cutsOff(r *rule, a *Process) bool {
	if a.Orphan && !slices.Contains(r.Verdict, a.Verdict) {
		return true
	}
	// What may only be reported ends nobody, and belongs to no tree above it.
	return r.Action == ActionKill && (e.spareHere(r, a) != "" || e.blocker(r, a) != "")
}

// nearest returns the nearest ancestor of p that matches m; zero where none does.
func (e *Engine) nearest(p *Process, m *spawnedByMatches) event.ID {
	known := e.pass.matches[m]
	if known == nil {
		known = make(map[event.ID]event.ID)
		e.pass.matches[m] = known
	}
	return inherit(&e.pass, known, p.Spawner,
		func(a *Process) (event.ID, bool) {
			if m.re.MatchString(a.Cmdline) {
				return a.ID, true
			}
			return event.ID{}, false
		},
		func(_ step, above event.ID) event.ID { return above })
}

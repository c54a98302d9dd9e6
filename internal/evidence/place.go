// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// placeOf says who manages what stands in a group. The root group is nobody's, but known.
func placeOf(group describe.Group) verdict.Place {
	if group.Path == "" {
		return verdict.Place{}
	}
	return verdict.Place{
		Known:     true,
		Unit:      field(group.UnitName()),
		Container: field(group.Unit.Container),
		Session:   sessionOf(group.Unit.Name),
	}
}

// field is text that stands in evidence, empty where it is.
func field(s string) string {
	if s == "" {
		return ""
	}
	return safetext.Field(s)
}

// sessionOf is logind's name of the session whose scope a unit is, empty where it is none.
func sessionOf(unit string) string {
	name, ok := strings.CutPrefix(unit, "session-")
	if !ok {
		return ""
	}
	name, ok = strings.CutSuffix(name, ".scope")
	if !ok || name == "" || strings.ContainsAny(name, "/.") {
		return ""
	}
	return name
}

// sessionDir is where logind tells of its sessions (sd-login(3) reads the same).
const sessionDir = "/run/systemd/sessions"

// A sessionTable remembers the leaders of sessions.
type sessionTable struct {
	leaders map[string]int32
}

// maxSessions bounds what is remembered; a full table starts again.
const maxSessions = 4096

// leader returns the pid of the process that leads a session, 0 where that is not known.
func (s *sessionTable) leader(session string) int32 {
	if pid, ok := s.leaders[session]; ok {
		return pid
	}
	b, err := os.ReadFile(filepath.Join(sessionDir, session))
	if err != nil {
		return 0
	}
	pid := parseLeader(b)
	if s.leaders == nil || len(s.leaders) == maxSessions {
		s.leaders = make(map[string]int32)
	}
	s.leaders[session] = pid
	return pid
}

// parseLeader finds LEADER=PID.
func parseLeader(b []byte) int32 {
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "LEADER="); ok {
			pid, err := strconv.ParseInt(value, 10, 32)
			if err == nil {
				return int32(pid)
			}
		}
	}
	return 0
}

// addUnit adds what the orphan is to the unit that it stands in.
func (g *Gatherer) addUnit(c *openCase, p *tracker.Process, group describe.Group, f *verdict.Facts) {
	name := group.UnitName()
	c.unitName = name
	if name == "" {
		return
	}
	f.Unit = verdict.Unit{Name: field(name), User: group.Unit.UserUnit != ""}
	service := strings.HasSuffix(name, ".service")
	byManager := service && g.spawnedByManager(p.Spawner, f.Unit.User)
	leakerByManager := false
	if l := p.Orphan.Leaker; l != nil && service && f.LeakerPlace.Unit == f.Unit.Name {
		if leaker, ok := g.tree.Get(l.ID); ok {
			leakerByManager = g.spawnedByManager(leaker.Spawner, f.Unit.User)
		}
	}
	leftOK := f.Leaker.StatusKnown && f.Leaker.Status == 0 && !f.Leaker.OOM
	if f.Unit.User {
		// Its manager is not asked: what that one itself spawned is the main or a control
		// process, and what such a one leaves in order is the candidate.
		f.Unit.Main = byManager
		f.Unit.Candidate = leakerByManager && leftOK && f.Direct
		f.Unit.LeakerMain = leakerByManager && !leftOK
		return
	}
	state, known := g.unitState(c, name)
	if !known {
		f.Errors = failed(f.Errors, "unit "+f.Unit.Name, c.unitError)
		f.Unit.Candidate = g.owners != nil && leakerByManager && leftOK && f.Direct && !c.settled
		f.Unit.LeakerMain = c.leakerMain
		return
	}
	down := state.State == "inactive" || state.State == "failed"
	f.Unit.Known, f.Unit.State, f.Unit.KillMode, f.Unit.NoFinalKill = true, state.State, state.KillMode, state.NoFinalKill
	f.Unit.Main = !down && state.MainPID == p.ID.PID
	f.Unit.Control = !down && state.ControlPID == p.ID.PID
	f.Unit.Candidate = state.State == "activating" && state.SubState == "start" && state.Type == "forking" &&
		leakerByManager && leftOK && f.Direct
	f.Unit.LeakerMain = c.leakerMain || f.Leaker.PID != 0 && state.MainPID == f.Leaker.PID
	c.leakerMain = f.Unit.LeakerMain
	f.Unit.Ended = down || state.SubState == "auto-restart" || state.StartedAt > c.since
}

// unitState is what the manager has told of a unit, or has answered.
func (g *Gatherer) unitState(c *openCase, unit string) (UnitState, bool) {
	if g.owners == nil {
		return UnitState{}, false
	}
	if state, ok := g.owners.Told(unit); ok {
		return state, true
	}
	if c.unit != nil {
		return *c.unit, true
	}
	return UnitState{}, false
}

// unitPending reports whether the manager's word is still to come.
func (g *Gatherer) unitPending(c *openCase, f *verdict.Facts) bool {
	return g.owners != nil && f.Unit.Name != "" && !f.Unit.User && !f.Unit.Known && c.asked.unit != answered
}

// spawnedByManager reports whether the spawner is the init of the tracer's namespace, or,
// for a user's unit, a user's manager.
func (g *Gatherer) spawnedByManager(spawner event.ID, user bool) bool {
	if !user {
		return spawner.PID == 1
	}
	return spawner.PID != 1 && g.isManager(spawner)
}

func durationOf(ns uint64) time.Duration { return time.Duration(min(ns, math.MaxInt64)) }

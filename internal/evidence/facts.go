// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/program"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// facts gathers what is known of an orphan now, without waiting for anyone.
func (g *Gatherer) facts(c *openCase, p *tracker.Process) verdict.Facts {
	o := p.Orphan
	f := verdict.Facts{
		Observed:    o.Observed,
		Direct:      o.Direct,
		Tied:        o.ByTie,
		Lived:       o.Lived,
		Since:       c.age(),
		Launch:      p.AtFork,
		LaunchKnown: p.AtForkKnown,
		Executed:    p.Executed,
		Exec:        p.AtExec,
		ExecKnown:   p.AtExecKnown,
		Ends:        c.ends,
		LeakerPlace: c.leakerPlace,
		Client:      c.client,
		AdopterKind: o.AdopterKind,
		MarksKnown:  p.MarksKnown,
		Keep:        p.Keep,
		Leash:       p.Leash,
		Errors:      slices.Clone(c.errors),
	}
	if o.Adopter.PID != 0 {
		f.AdopterComm = safetext.Name(o.AdopterComm.String())
	}
	_, f.LeaseEnded = g.leases.Ended(p.ID)
	g.addLeaker(&f, p, o.Leaker)
	g.addState(c, p, &f)
	group := g.names.Group(p.ID, p.Cgroup, !p.Dead)
	f.Place = placeOf(group)
	g.addUnit(c, p, group, &f)
	f.ContainerInit = p.NSInit && f.Place.Container != "" && g.livingMonitor(p)
	f.LoginLeader = f.Place.Session != "" && g.sessions.leader(f.Place.Session) == p.ID.PID
	g.addAbove(p, &f)
	g.addSuccession(c, p, &f)
	if s := g.tree.LastCaught(p.ID, unix.SIGHUP); s != nil && s.Time+uint64(tracker.AskedByHupWithin) >= o.Since {
		f.HangupSurvived = true
	}
	g.addPending(c, p, &f)
	return f
}

func (g *Gatherer) addLeaker(f *verdict.Facts, p *tracker.Process, l *tracker.Leaker) {
	if l == nil {
		return
	}
	f.Leaker = verdict.Leaker{
		PID:         l.ID.PID,
		Comm:        safetext.Name(l.Comm.String()),
		Status:      l.End.Status,
		StatusKnown: l.End.Known,
		OOM:         l.End.OOM,
		NeverExeced: l.End.NeverExeced,
		Start:       l.Start,
		StartKnown:  l.StartKnown,
		Life:        lifeOf(l),
		Leaked:      l.Within == verdict.Leaked,
		LeakedWith:  l.Within == verdict.Leaked && p.ID.Start < l.WithinSince,
		Signal:      g.sent(l.End.Killer, l, f),
		Asked:       g.sent(l.End.Asked, l, f),
	}
}

// lifeOf is how long a leaker lived; 0 where its end was not seen.
func lifeOf(l *tracker.Leaker) time.Duration {
	if !l.End.Known || l.End.Time <= l.ID.Start {
		return 0
	}
	return durationOf(l.End.Time - l.ID.Start)
}

// sent tells of a signal what its sender is to the leaker.
func (g *Gatherer) sent(s *tracker.Sent, l *tracker.Leaker, f *verdict.Facts) verdict.Sent {
	if s == nil {
		return verdict.Sent{}
	}
	out := verdict.Sent{Signal: s.Signal.Signal}
	if l.End.Time > s.Time {
		out.Ago = durationOf(l.End.Time - s.Time)
	}
	if !s.FromKernel && s.Sender.PID != 0 {
		out.Who = fmt.Sprintf("pid %d (%s)", s.Sender.PID, safetext.Name(s.SenderComm.String()))
	}
	switch {
	case s.FromKernel && (s.Signal.Signal == unix.SIGHUP || s.Signal.Signal == unix.SIGINT || s.Signal.Signal == unix.SIGQUIT):
		out.By = verdict.ByTerminal
	case s.FromKernel:
		out.By = verdict.ByKernel
	case s.Sender == l.ID:
		out.By = verdict.ByItself
	case g.isManager(s.Sender) && f.LeakerPlace.Unit != "", g.isInitOf(s.Sender, f.LeakerPlace.Container):
		out.By = verdict.ByManager
	case s.BySpawner:
		out.By = verdict.BySpawner
	case s.Sender.PID != 0:
		out.By = verdict.ByStranger
	}
	return out
}

// isManager reports whether the process is the init of the tracer's own pid namespace, or a
// user's service manager: what that one stands in only it does.
func (g *Gatherer) isManager(id event.ID) bool {
	if id.PID == 1 {
		return true
	}
	p, ok := g.tree.Get(id)
	if !ok {
		return false
	}
	return g.names.Group(p.ID, p.Cgroup, !p.Dead).Unit.UserUnit == "init.scope"
}

// isInitOf reports whether the process is the init of a container. Who is asked to end by
// that one is so because the container is to be stopped.
func (g *Gatherer) isInitOf(id event.ID, container string) bool {
	p, ok := g.tree.Get(id)
	return ok && container != "" && p.NSInit && placeOf(g.names.Group(p.ID, p.Cgroup, !p.Dead)).Container == container
}

// addState adds the state that the process is in. At the first look it is what the kernel's
// own list had at the death. Read later it shows more signs, never fewer.
func (g *Gatherer) addState(c *openCase, p *tracker.Process, f *verdict.Facts) {
	if c.was != nil && p.Orphan.AtDeathKnown || p.Dead {
		f.Now, f.NowKnown = p.Orphan.AtDeath, p.Orphan.AtDeathKnown
	} else {
		origin, err := g.proc.Origin(p.ID)
		f.Now, f.NowKnown = origin, err == nil
		switch {
		case errors.Is(err, procfs.ErrLeaderEnded) && c.stateKnown:
			// It is dying, or lives on without its first thread, whose files are gone from
			// procfs: what it showed before holds.
			f.Now, f.NowKnown = c.state, true
		case err != nil && !errors.Is(err, procfs.ErrGone):
			f.Errors = append(f.Errors, fmt.Sprintf("its state: %v", err))
		}
	}
	if f.NowKnown {
		c.state, c.stateKnown = f.Now, true
	}
	if !f.NowKnown || !f.Now.StdioKnown {
		return
	}
	for fd, file := range f.Now.Stdio {
		if kind := file.Mode & unix.S_IFMT; kind != unix.S_IFIFO && kind != unix.S_IFSOCK {
			c.ends[fd] = verdict.EndNone
		} else if c.ends[fd] == verdict.EndNone {
			c.ends[fd] = verdict.EndUnknown
		}
	}
	f.Ends = c.ends
}

// noEnds reports whether there is no pipe or socket among 0, 1 and 2.
func (c *openCase) noEnds() bool { return c.ends == [3]verdict.End{} }

// livingMonitor reports whether who has adopted a container's init is a monitor of root's
// that lives outside of the container and adopts orphans on purpose: a group's name anybody
// may give who has groups of his own.
func (g *Gatherer) livingMonitor(p *tracker.Process) bool {
	monitor, ok := g.tree.Get(p.Orphan.Adopter)
	if !ok || monitor.Dead || p.Orphan.AdopterKind != event.AdopterSubreaper || monitor.HostPID == 1 || monitor.UID != 0 {
		return false
	}
	place := placeOf(g.names.Group(monitor.ID, monitor.Cgroup, true))
	return place.Known && place.Container != placeOf(g.names.Group(p.ID, p.Cgroup, !p.Dead)).Container
}

// addAbove adds the orphan that a stranded one lives below.
func (g *Gatherer) addAbove(p *tracker.Process, f *verdict.Facts) {
	if p.Orphan.Direct {
		return
	}
	above, ok := g.tree.Get(p.Spawner)
	if !ok || above.Dead || above.Orphan == nil || above.Orphan.Verdict == "" {
		return
	}
	f.Above = &verdict.Above{PID: above.ID.PID, Comm: safetext.Name(above.Comm.String()),
		Verdict: above.Orphan.Verdict, Provisional: above.Orphan.Provisional}
}

// addSuccession adds whether the orphan may be the next generation of its spawner's service.
func (g *Gatherer) addSuccession(c *openCase, p *tracker.Process, f *verdict.Facts) {
	l := p.Orphan.Leaker
	if l == nil || !p.Executed || l.Cmdline == "" || p.Cmdline == "" {
		return
	}
	own := program.Of(event.SplitCmdline(p.Cmdline), p.Filename, p.Comm.String())
	leaker := program.Of(event.SplitCmdline(l.Cmdline), l.Filename, l.Comm.String())
	f.Succession = verdict.Succession{
		// With the same arguments: a worker is told by others what it is to do.
		SameProgram: own.Same(&leaker) && slices.Equal(own.Args, leaker.Args),
		Children:    g.hasChildren(p.ID),
		Listens:     c.listens,
	}
}

func (g *Gatherer) hasChildren(id event.ID) bool {
	for child := range g.tree.Children(id) {
		if g.tree.Has(child) {
			return true
		}
	}
	return false
}

// addPending adds what may still change the facts.
func (g *Gatherer) addPending(c *openCase, p *tracker.Process, f *verdict.Facts) {
	if c.settled || p.Dead {
		return
	}
	f.Pending = verdict.Pending{
		Signs: p.ID.Start+uint64(verdict.Settles) > boottime.Now(),
		Ends:  !c.noEnds() && (c.asked.ends != answered || slices.Contains(c.ends[:], verdict.EndHeld)),
		Unit:  g.unitPending(c, f),
		Marks: !p.MarksKnown && c.asked.marks != answered,
	}
	f.Pending.Listens = f.Succession.SameProgram && f.Succession.Children && c.asked.listens != answered
	_, mayBe := g.launchingServer(p, f)
	f.Pending.Client = mayBe && c.asked.client != answered
}

// launchingServer is who lives and had forked a helper to launch the orphan, which is done, or
// which it ended: a bus does so with the services that it activates.
func (g *Gatherer) launchingServer(p *tracker.Process, f *verdict.Facts) (event.ID, bool) {
	if !f.Direct || f.Tied || !f.Executed || !f.Leaker.NeverExeced || f.Leaker.Signal.By != verdict.BySpawner && f.Leaker.Status != 0 {
		return event.ID{}, false
	}
	helper, ok := g.tree.Get(p.Orphan.Leaker.ID)
	if !ok {
		return event.ID{}, false
	}
	server, ok := g.tree.Get(helper.Spawner)
	return server.ID, ok && !server.Dead
}

// who names the leaker of an orphan.
func who(l *tracker.Leaker) string {
	if l == nil {
		return "its spawner"
	}
	return fmt.Sprintf("pid %d (%s)", l.ID.PID, safetext.Name(l.Comm.String()))
}

// SPDX-License-Identifier: Apache-2.0

// Package evidence gathers what speaks for which verdict on an orphan, and has it judged:
// what the records tell at once, what procfs and the service manager say when they are
// asked beside the loop, and what a second look shows.
//
//	orphan -> facts -> (slow questions) -> verdict.Judge -> judged, for the loop to take
package evidence

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/slowread"
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

// Options of New. All but Owners and OnRead must be set.
type Options struct {
	Tree   *tracker.Tree
	Names  *describe.Names
	Leases *lease.Table
	// Owners is asked about units; nil where there is no service manager.
	Owners Owners
	// Post runs fn on the loop, some time. It is called from any goroutine but the loop's.
	Post func(fn func())
	// OnRead is called on the loop with processes whose program or marks were read.
	OnRead func([]event.ID)
}

// A Gatherer belongs to the loop that owns the tree. What can block it asks on goroutines
// of its own, whose answers it posts to the loop.
type Gatherer struct {
	tree   *tracker.Tree
	proc   procfs.FS
	names  *describe.Names
	leases *lease.Table
	owners Owners
	post   func(func())
	onRead func([]event.ID)

	async       asyncRunner
	reads       slowread.Reads                 // of environments and arguments, beside the loop
	stranded    map[event.ID][]tracker.Process // by the direct orphan that is being judged
	unjudged    []*tracker.Process             // direct orphans whose facts were not looked at yet
	judged      []Judged                       // not taken yet
	unconfirmed []unconfirmed                  // adopters to confirm
	fill        backfill
}

// New returns a gatherer that has nothing to do yet.
func New(opt Options) *Gatherer {
	return &Gatherer{
		tree:     opt.Tree,
		names:    opt.Names,
		leases:   opt.Leases,
		owners:   opt.Owners,
		post:     opt.Post,
		onRead:   opt.OnRead,
		stranded: make(map[event.ID][]tracker.Process),
		fill:     newBackfill(),
	}
}

// Orphaned takes a direct orphan to be judged; those stranded with it wait for its
// verdict, which is theirs.
func (g *Gatherer) Orphaned(id event.ID) {
	p, ok := g.tree.Get(id)
	if !ok || p.Orphan == nil {
		return
	}
	if p.Orphan.Direct {
		g.unconfirmed = append(g.unconfirmed, unconfirmed{id: p.ID})
		g.stranded[p.ID] = g.strandedBelow(p.ID)
		g.unjudged = append(g.unjudged, &p)
	}
}

// strandedBelow returns the orphans that were announced together with root.
func (g *Gatherer) strandedBelow(root event.ID) []tracker.Process {
	var list []tracker.Process
	for id := range g.tree.Descendants(root) {
		if p, ok := g.tree.Get(id); ok && p.Orphan != nil && !p.Orphan.Direct && p.Orphan.Root == root {
			list = append(list, p)
		}
	}
	return list
}

// A Judged orphan is one to be told of, with what was stranded with it: as they were when
// they became orphans.
type Judged struct {
	Orphan   *tracker.Process
	Stranded []tracker.Process
	Verdict  string
	Evidence []string
}

// HasNews reports whether there are orphans for Judge, or judged ones for TakeJudged.
func (g *Gatherer) HasNews() bool { return len(g.unjudged) > 0 || len(g.judged) > 0 }

// Judge looks at new orphans, limit at most. Where all is known that counts they are
// judged then, else when the answers are in.
func (g *Gatherer) Judge(limit int) {
	unjudged := g.unjudged[:min(len(g.unjudged), limit)]
	g.unjudged = g.unjudged[len(unjudged):]
	for _, p := range unjudged {
		g.judge(p)
	}
}

// TakeJudged returns the orphans that were judged since the last call. Their verdicts are
// in the tree.
func (g *Gatherer) TakeJudged() []Judged {
	judged := g.judged
	g.judged = nil
	return judged
}

// judge finds the verdict on a direct orphan that was just made, and announces it
// with all that it stranded: at once where what is known suffices, else as soon as
// the slow facts are in.
func (g *Gatherer) judge(p *tracker.Process) {
	facts := g.facts(p)
	askMarks := !p.MarksKnown && p.Orphan.Observed
	askUnit := g.owners != nil && facts.Unit != ""
	if !askMarks && !askUnit {
		g.announce(p, facts)
		return
	}
	id := p.ID
	asked := g.runAsync(func() {
		facts := g.ask(id, p.UID, facts, askMarks, askUnit)
		g.post(func() {
			if facts.MarksKnown {
				g.tree.SetMarks(id, facts.Keep, facts.Leash)
			}
			g.announce(p, facts)
		})
	})
	if !asked {
		facts.Errors = append(facts.Errors, errBusy.Error())
		g.announce(p, facts)
	}
}

// facts gathers what can be known without waiting for anyone.
func (g *Gatherer) facts(p *tracker.Process) verdict.Facts {
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
	_, f.LeaseEnded = g.leases.Ended(p.ID)
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
		origin, err := g.proc.Origin(p.ID)
		f.AtDeath, f.AtDeathKnown = origin, err == nil
		if err != nil {
			f.Errors = append(f.Errors, fmt.Sprintf("state at the death: %v", err))
		}
	}
	group := g.names.Group(p.ID, p.Cgroup, true)
	if unit := group.UnitName(); unit != "" {
		f.Unit = safetext.Field(unit)
		f.UserService = group.UserService()
	}
	f.ContainerInit = p.NSInit
	f.TmuxServer = g.multiplexer(p)
	f.LoginSession = strings.HasPrefix(group.Unit.Name, "session-") && f.AtDeath.SessionOwn && f.AtDeath.Tty
	return f
}

// Rejudge looks once more at a new orphan whose verdict is unknown, when it executes a
// program: it may have been on its way to detach. That can only spare it.
func (g *Gatherer) Rejudge(id event.ID) {
	p, ok := g.tree.Get(id)
	if !ok || p.Dead || p.Orphan == nil || p.Orphan.Verdict != verdict.Unknown || p.Orphan.Leaker == nil ||
		!p.Orphan.Direct || boottime.Now()-p.Orphan.Since > uint64(verdict.Settles) {
		return
	}
	facts := g.facts(&p)
	origin, err := g.proc.Origin(id)
	if err != nil {
		return
	}
	facts.AtDeath, facts.AtDeathKnown = origin, true
	if v, evidence := verdict.Judge(facts); v == verdict.Deliberate {
		g.tree.SetVerdict(id, v, append(evidence, "it had not done so when its spawner left, but did at once"))
	}
}

// multiplexer reports whether p is a terminal multiplexer's server, or the leader of
// a session that a living one made. What runs below such a session is not the
// multiplexer's own.
func (g *Gatherer) multiplexer(p *tracker.Process) bool {
	if isMultiplexer(p) {
		return true
	}
	if !p.Orphan.AtDeath.SessionOwn {
		return false
	}
	spawner, ok := g.tree.Get(p.Spawner)
	return ok && !spawner.Dead && isMultiplexer(&spawner)
}

func isMultiplexer(p *tracker.Process) bool {
	switch path.Base(p.Filename) {
	case "tmux", "screen", "zellij", "dtach", "abduco":
		return true
	}
	return false
}

// announce records the verdict on an orphan and on all that was stranded with it. They
// are told of soon, as they were then: by now they may be dead, with so many after them
// that the tree has forgotten them.
func (g *Gatherer) announce(orphan *tracker.Process, f verdict.Facts) {
	v, evidence := verdict.Judge(f)
	g.tree.SetVerdict(orphan.ID, v, evidence)
	stranded := g.stranded[orphan.ID]
	delete(g.stranded, orphan.ID)
	for i := range stranded {
		// By now its own spawner may be dead too, which takes it out of the orphan's reach.
		if p, ok := g.tree.Get(stranded[i].ID); ok && p.Orphan != nil && p.Orphan.Verdict == "" {
			g.tree.SetVerdict(p.ID, v, evidence)
		}
	}
	g.judged = append(g.judged, Judged{orphan, stranded, v, evidence})
}

// Resume goes on with the orphans whose verdict or adopter was still being asked for.
func (g *Gatherer) Resume() {
	var unjudged []event.ID
	for id, o := range g.tree.OrphanIDs() {
		if !o.Direct || o.Leaker == nil {
			continue
		}
		if !o.Confirmed {
			g.unconfirmed = append(g.unconfirmed, unconfirmed{id: id})
		}
		if o.Verdict == "" {
			unjudged = append(unjudged, id)
		}
	}
	if len(unjudged) == 0 {
		return
	}
	g.post(func() {
		for _, id := range unjudged {
			if p, ok := g.tree.Get(id); ok && !p.Dead && p.Orphan != nil && p.Orphan.Verdict == "" {
				g.stranded[id] = g.strandedBelow(id)
				g.judge(&p)
			}
		}
	})
}

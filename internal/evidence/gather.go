// SPDX-License-Identifier: Apache-2.0

// Package evidence gathers what speaks for which verdict on an orphan, and holds a verdict
// against each over time: told at once by what the records tell, looked at again when
// procfs, the other ends of its stdio and the service manager have answered, when something
// happens to it, and at fixed times.
//
//	orphan -> facts -> verdict.Judge -> news, for the loop to take
//	            ^
//	answers ----+---- looks: 5 ms to a minute, exec, move, its unit, the orphan above it
package evidence

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/slowread"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// UnitState is what the service manager says of a unit.
type UnitState struct {
	// State, SubState and Type are ActiveState, SubState and, of a service, Type.
	State, SubState, Type string
	KillMode              string
	// NoFinalKill is SendSIGKILL=no: what does not end when the unit is stopped is left.
	NoFinalKill         bool
	MainPID, ControlPID int32 // 0 without one
	// StartedAt is when it last began to start, CLOCK_BOOTTIME ns; 0 where it never did.
	StartedAt uint64
}

// An Owners asks the service manager. It may be slow, and it may fail.
type Owners interface {
	// Unit returns the state of the unit that the process is in, asked for now. One that is
	// in no unit has the zero state.
	Unit(ctx context.Context, pid int32) (UnitState, error)
	// Told returns what the manager has told of a unit without being asked; false where it
	// has not. It never blocks. From any goroutine.
	Told(unit string) (UnitState, bool)
	// Watch keeps what Told returns up to date until ctx ends, and calls changed, on its own
	// goroutine, with each unit whose state is another.
	Watch(ctx context.Context, changed func(unit string))
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
	reads       slowread.Reads         // of what processes can block, beside the loop
	cases       map[event.ID]*openCase // of living orphans
	unjudged    []*openCase            // whose facts were not looked at yet
	news        []News                 // not taken yet
	due         [len(lookAt)][]dueLook // in the order of their time
	unconfirmed []unconfirmed          // adopters to confirm
	sessions    sessionTable
	fill        backfill
}

// New returns a gatherer that has nothing to do yet.
func New(opt Options) *Gatherer {
	return &Gatherer{
		tree:   opt.Tree,
		names:  opt.Names,
		leases: opt.Leases,
		owners: opt.Owners,
		post:   opt.Post,
		onRead: opt.OnRead,
		cases:  make(map[event.ID]*openCase),
		fill:   newBackfill(),
	}
}

// An openCase is what is held of one orphan beside the tree.
type openCase struct {
	id event.ID
	// was is the process when it became an orphan: it may be dead, and forgotten by the
	// tree, when it is told of. nil once it was.
	was *tracker.Process
	// leaker is of the death that it is judged by.
	leaker event.ID
	since  uint64
	told   bool

	leakerPlace verdict.Place
	unitName    string // of the unit that it stands in, at the last look
	// leakerMain says that the leaker was the main process of the unit, as the manager had
	// it when it died.
	leakerMain bool
	state      event.Origin // as it was read last, where stateKnown
	stateKnown bool
	ends       [3]verdict.End
	listens    verdict.Answer
	client     verdict.Answer
	unit       *UnitState // as it was asked for; nil before
	unitError  error      // why it could not be, which matters only until it is told
	errors     []string   // facts that could not be read
	asked      asked
	settled    bool // nothing is waited for any more
}

// asked are the questions that are under way or answered.
type asked struct {
	marks, unit, ends, listens, client question
}

// A question is asked once, but for the other ends.
type question uint8

const (
	unasked question = iota
	waiting
	answered
)

// A News is an orphan to be told of, or one whose verdict has changed.
type News struct {
	// Process is the orphan as it is now, or as it was when it became one.
	Process *tracker.Process
	// First says that it was not told of before; else Previous is what was held of it and
	// Reason says what changed that.
	First    bool
	Previous string
	Reason   string
	// Quiet says that nobody is to be told.
	Quiet bool
}

// Orphaned takes an orphan to be judged, one that was made or that another death has made
// what it is. Those above it must be taken before it.
func (g *Gatherer) Orphaned(id event.ID) {
	p, ok := g.tree.Get(id)
	if !ok || p.Orphan == nil {
		return
	}
	c := &openCase{id: id, was: &p, since: p.Orphan.Since}
	if before := g.cases[id]; before != nil {
		c.told = before.told
	}
	if l := p.Orphan.Leaker; l != nil {
		c.leaker = l.ID
		c.leakerPlace = placeOf(g.names.Group(l.ID, l.Cgroup, false))
	}
	if p.Orphan.Direct && !p.Orphan.Confirmed {
		g.unconfirmed = append(g.unconfirmed, unconfirmed{id: p.ID})
	}
	for fd := range c.ends {
		c.ends[fd] = verdict.EndUnknown
	}
	g.cases[id] = c
	g.unjudged = append(g.unjudged, c)
}

// Exited forgets a process that died.
func (g *Gatherer) Exited(id event.ID) {
	if c := g.cases[id]; c != nil && c.told {
		delete(g.cases, id)
	}
}

// HasNews reports whether there are orphans for Judge, or news for TakeNews.
func (g *Gatherer) HasNews() bool { return len(g.unjudged) > 0 || len(g.news) > 0 }

// TakeNews returns the orphans that were judged since the last call, and those of which
// another verdict holds now. Their verdicts are in the tree.
func (g *Gatherer) TakeNews() []News {
	news := g.news
	g.news = nil
	return news
}

// Judge looks at new orphans, limit at most, and asks what they need to have asked.
func (g *Gatherer) Judge(limit int) {
	unjudged := g.unjudged[:min(len(g.unjudged), limit)]
	g.unjudged = g.unjudged[len(unjudged):]
	for _, c := range unjudged {
		if g.cases[c.id] != c {
			continue // another death came before
		}
		g.judge(c, "the death of "+who(c.was.Orphan.Leaker))
		g.schedule(c)
	}
}

// look judges an orphan anew, for a reason. One that waits for Judge is looked at then.
func (g *Gatherer) look(c *openCase, reason string) {
	if g.cases[c.id] == c && c.was == nil {
		g.judge(c, reason)
	}
}

// judge gathers the facts as they are now, and records the verdict. News are orphans that
// nobody was told of, and other verdicts.
func (g *Gatherer) judge(c *openCase, reason string) {
	p, living := g.tree.Get(c.id)
	first := !c.told
	if !living || p.Dead || p.Orphan == nil {
		if !first {
			delete(g.cases, c.id)
			return
		}
		p = *c.was
		p.Dead = true
	}
	facts := g.facts(c, &p)
	v := g.weigh(c, &p, facts)
	before := *p.Orphan
	g.tree.SetVerdict(c.id, v.Word, v.Provisional, v.Evidence)
	g.tie(&p, &facts, v)
	c.told = true
	changed := before.Verdict != v.Word || before.Provisional != v.Provisional ||
		c.was != nil && !first || // judged by another death
		facts.Abandoned() && !before.Abandoned // a fact that rules match on
	if facts.Abandoned() {
		g.tree.SetAbandoned(c.id)
	}
	if first || changed {
		g.news = append(g.news, g.newsOf(c, &p, v, first, before.Verdict, reason))
	}
	c.was = nil
	if p.Dead {
		delete(g.cases, c.id)
		return
	}
	g.ask(c, &p, &facts, v)
	if before.Verdict != v.Word || before.Provisional != v.Provisional {
		g.lookBelow(c.id)
	}
}

// weigh has the facts judged. Of one that is judged by the death of who lived above its
// launcher, how that one left it still speaks for it.
func (g *Gatherer) weigh(c *openCase, p *tracker.Process, facts verdict.Facts) verdict.Verdict {
	v := verdict.Judge(facts)
	o := p.Orphan
	if !o.ByTie || o.Launcher == nil || v.Word == verdict.Deliberate && !v.Provisional {
		return v
	}
	first := facts
	first.Tied, first.Lived = false, o.LauncherLived
	g.addLeaker(&first, p, o.Launcher)
	if launched := verdict.Judge(first); launched.Word == verdict.Deliberate {
		return launched
	}
	return v
}

// newsOf is what is to be told: of a process that the tree has forgotten, as it was.
func (g *Gatherer) newsOf(c *openCase, p *tracker.Process, v verdict.Verdict, first bool, previous, reason string) News {
	n := News{First: first, Previous: previous, Reason: reason, Quiet: p.Orphan.Quiet}
	told, ok := g.tree.Get(c.id)
	if !ok || told.Orphan == nil {
		told = *p
		told.Dead = true
	}
	o := *told.Orphan
	o.Verdict, o.Provisional, o.Evidence = v.Word, v.Provisional, v.Evidence
	told.Orphan = &o
	n.Process = &told
	return n
}

// tie has an orphan that its launcher left in order, and of which nothing else is known, be
// judged by the death of who lives above it.
func (g *Gatherer) tie(p *tracker.Process, f *verdict.Facts, v verdict.Verdict) {
	o := p.Orphan
	switch {
	case v.Word == verdict.Unknown && o.Direct && o.Observed && f.LeftInOrder():
		if o.Tied.IsZero() {
			g.tree.Tie(p.ID)
		}
	case !o.Tied.IsZero():
		g.tree.Untie(p.ID)
	}
}

// lookBelow judges those anew who are stranded right below an orphan: what is held of it
// counts for them.
func (g *Gatherer) lookBelow(id event.ID) {
	for child := range g.tree.Children(id) {
		if c := g.cases[child]; c != nil {
			if p, ok := g.tree.Get(child); ok && !p.Dead && p.Orphan != nil && !p.Orphan.Direct {
				g.look(c, "another verdict on its spawner")
			}
		}
	}
}

// Resume goes on with the orphans of a tree that was saved: each is looked at again.
func (g *Gatherer) Resume() {
	var ids []event.ID
	for id, o := range g.tree.OrphanIDs() {
		if o.Leaker == nil {
			continue
		}
		if o.Direct && !o.Confirmed {
			g.unconfirmed = append(g.unconfirmed, unconfirmed{id: id})
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return
	}
	// Spawners before those whom they have spawned.
	slices.SortFunc(ids, func(a, b event.ID) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID)) })
	g.post(func() {
		for _, id := range ids {
			p, ok := g.tree.Get(id)
			if !ok || p.Dead || p.Orphan == nil || g.cases[id] != nil {
				continue
			}
			g.resume(&p)
		}
	})
}

// resume takes up an orphan. One that was judged finally before keeps that until something
// happens to it.
func (g *Gatherer) resume(p *tracker.Process) {
	o := p.Orphan
	if o.Verdict == "" {
		g.Orphaned(p.ID)
		return
	}
	c := &openCase{id: p.ID, leaker: o.Leaker.ID, since: o.Since, told: true, settled: !o.Provisional}
	c.leakerPlace = placeOf(g.names.Group(o.Leaker.ID, o.Leaker.Cgroup, false))
	for fd := range c.ends {
		c.ends[fd] = verdict.EndUnknown
	}
	g.cases[p.ID] = c
	if o.Provisional {
		g.schedule(c)
		g.look(c, "the start of the daemon")
	}
}

// age is how long ago the death was.
func (c *openCase) age() time.Duration {
	now := boottime.Now()
	if now <= c.since {
		return 0
	}
	return time.Duration(now - c.since)
}

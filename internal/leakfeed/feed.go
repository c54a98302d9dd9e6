// SPDX-License-Identifier: Apache-2.0

// Package leakfeed feeds the set of leaks with what the loop sees, and makes events of
// what the set has to tell.
//
//	news of orphans, forks, exits, samples -> leak.Set -> leak events
package leakfeed

import (
	"cmp"
	"slices"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/container"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/fingerprint"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/remedy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Options of New. All but KillMode must be set.
type Options struct {
	Tree  *tracker.Tree
	Names *describe.Names
	Conv  *describe.Converter
	// Machine names the machine and its boot in the ids of leaks.
	Machine string
	// Usage tells what all processes use now. It is called on a goroutine of its own.
	Usage func() ([]event.Task, error)
	// Post runs fn on the loop, some time. It is called from any goroutine but the loop's.
	Post func(fn func())
	// KillMode is that of a unit; empty where it is not known. It does not block.
	KillMode func(unit string) string
}

// A Feed belongs to the loop that owns the tree.
type Feed struct {
	opt Options
	set *leak.Set

	events    []*wire.Event // to be told
	unsampled bool          // members joined that no sample has seen
	sampling  bool          // one is under way
	sampledAt uint64
}

// New returns a feed of no leaks.
func New(opt Options) *Feed {
	if opt.KillMode == nil {
		opt.KillMode = func(string) string { return "" }
	}
	return &Feed{opt: opt, set: leak.New(opt.Machine, 0)}
}

// News takes the verdict on an orphan, the first or a later one, and notes in the news and
// in the tree which leak it belongs to. The news may be older than what the tree knows: who died
// since joins no leak again, and one of whom nobody had heard joins and leaves at once.
func (f *Feed) News(n *evidence.News) {
	p := n.Process
	o := p.Orphan
	if o.Leaker == nil || n.Quiet && !f.set.Inside(o.Leaker.ID) && !f.set.Inside(p.ID) {
		// Older than the tracer, or left by somebody whom the tracer's own process ended.
		return
	}
	current, known := f.opt.Tree.Get(p.ID)
	if !known {
		current = *p
	}
	dead := !known || current.Dead
	if dead && !n.First {
		return
	}
	now := boottime.Now()
	f.set.Judge(leak.Orphan{ID: p.ID, Leaker: o.Leaker.ID, Since: o.Since, Direct: o.Direct,
		Verdict: leak.ParseVerdict(o.Verdict), Provisional: o.Provisional, Descendants: f.unannounced(p.ID),
		Describe: func() leak.Leaker { return f.describe(o.Leaker) }}, now)
	if dead {
		f.set.Exit(leak.Exit{ID: p.ID, Time: now, Ending: f.ending(&current.End), CPU: current.End.CPU})
		return
	}
	f.unsampled = true
	o.Leak = f.set.IDOf(p.ID)
	f.opt.Tree.SetLeak(p.ID, o.Leak)
}

// unannounced lists the living descendants of an orphan that are no orphans themselves. Those
// may be a chain of thousands: none is copied twice, and nothing recurses.
func (f *Feed) unannounced(id event.ID) (list []event.ID) {
	for next := 0; ; next++ {
		for child := range f.opt.Tree.Children(id) {
			if p, ok := f.opt.Tree.Get(child); ok && !p.Dead && p.Orphan == nil {
				list = append(list, child)
			}
		}
		if next == len(list) {
			return list
		}
		id = list[next]
	}
}

// Forked takes a new process.
func (f *Feed) Forked(p *tracker.Process) { f.set.Fork(p.Spawner, p.ID, p.ID.Start) }

// Exited takes the end of a process.
func (f *Feed) Exited(p *tracker.Process) {
	if f.set.Inside(p.ID) {
		at := p.End.Time
		if at == 0 {
			at = boottime.Now() // it was not seen
		}
		f.set.Exit(leak.Exit{ID: p.ID, Time: at, Ending: f.ending(&p.End), CPU: p.End.CPU})
	}
}

func (f *Feed) ending(e *tracker.End) leak.Ending {
	switch {
	case !e.Known:
		return leak.Unseen
	case e.OOM:
		return leak.ByOOM
	case f.opt.Tree.Ours(e):
		return leak.ByKill
	case e.Status.Signaled():
		return leak.BySignal
	}
	return leak.ByExit
}

// Resynced takes out those who were found gone.
func (f *Feed) Resynced() { f.set.Retain(f.opt.Tree.Has, boottime.Now()) }

// Kill notes that a kill of ours begins on these processes: their leaks are told of at the
// next Tick, if nobody was told yet.
func (f *Feed) Kill(killID, rule string, ids []event.ID) { f.set.Kill(killID, rule, ids) }

// Of returns the id of the leak that a living process belongs to; false where it belongs to
// none.
func (f *Feed) Of(id event.ID) (string, bool) {
	leakID := f.set.IDOf(id)
	return leakID, leakID != ""
}

// Living returns the living members of a leak, in no order, and whether the leak is known.
func (f *Feed) Living(leakID string) (ids []event.ID, known bool) {
	for _, id := range f.set.MemberIDs() {
		if f.set.IDOf(id) == leakID {
			ids = append(ids, id)
		}
	}
	return ids, len(ids) > 0 || f.set.Get(leakID) != nil
}

// LeftBy lists the ids of the leaks that processes with this pid left, open or remembered:
// of the one that began at start, unless that is 0.
func (f *Feed) LeftBy(pid int32, start uint64) (leakIDs []string) {
	for _, l := range f.set.LeftBy(pid, start) {
		leakIDs = append(leakIDs, l.ID)
	}
	return leakIDs
}

// Held is what the living members of an open leak hold, and how far they are judged.
type Held struct {
	Processes int
	RSS, Swap uint64 // bytes, of those that were sampled
	Sampled   bool   // some were
	Pending   bool   // the verdict on one at least is not final
	OpenedAt  uint64
}

// Held returns what an open leak holds, be it that nobody was told of it yet; false where there
// is no such leak.
func (f *Feed) Held(leakID string) (Held, bool) {
	l := f.set.ByID(leakID)
	if l == nil || !l.Open() {
		return Held{}, false
	}
	return Held{Processes: l.Now, RSS: l.RSS, Swap: l.Swap, Sampled: l.PeakBytes > 0, Pending: l.Pending(), OpenedAt: l.OpenedAt}, true
}

// AddTo adds to a kill which leak it reaches, and whose that is, as far as it is known yet.
func (f *Feed) AddTo(kill *wire.Kill, leakID string) {
	kill.Leak = leakID
	if l := f.set.Get(leakID); l != nil {
		kill.Fingerprint, kill.Name = l.Leaker.Fingerprint.ID, l.Leaker.Fingerprint.Name
		kill.Unit, kill.Container, kill.User = l.Leaker.Unit, l.Leaker.Container, l.Leaker.User
		kill.ContainerName = l.Leaker.ContainerName
	}
}

// Case is the fingerprint of the leak that a living process belongs to, and when that was
// opened; empty where it belongs to none.
func (f *Feed) Case(id event.ID) (fingerprint string, opened uint64) {
	c, opened := f.set.Case(id)
	return c.ID, opened
}

// CaseOf is what a leak would be a case of that the process, known dead or alive, leaves;
// empty where it is not known.
func (f *Feed) CaseOf(id event.ID) string {
	p, ok := f.opt.Tree.Get(id)
	if !ok {
		return ""
	}
	return f.fingerprint(&tracker.Leaker{ID: p.ID, Comm: p.Comm, Filename: p.Filename, Cmdline: p.Cmdline, Cgroup: p.Cgroup}).ID
}

// NameOf is the name for people of a fingerprint that a known leak has; empty where none
// has it.
func (f *Feed) NameOf(fingerprint string) string { return f.set.NameOf(fingerprint) }

// SetThresholds says what age and what memory of a leak are told, once for each.
func (f *Feed) SetThresholds(t leak.Thresholds) { f.set.SetThresholds(t) }

// samplePause is the least time between two samples of the feed's own.
const samplePause = uint64(1e9)

// Tick finds out what is due to be told, and has members sampled that nobody has looked at. It returns
// when it wants to be called again at the latest, CLOCK_BOOTTIME ns; 0 is any time.
func (f *Feed) Tick(now uint64) uint64 {
	for _, c := range f.set.Due(now) {
		f.tell(&c)
	}
	next := f.set.Next()
	if f.unsampled && !f.sampling {
		if at := f.sampledAt + samplePause; now < at {
			next = boottime.Earlier(next, at)
		} else {
			f.sample(now)
		}
	}
	return next
}

// sample has all processes sampled beside the loop.
func (f *Feed) sample(now uint64) {
	f.unsampled, f.sampling, f.sampledAt = false, true, now
	go func() {
		at := boottime.Now()
		tasks, err := f.opt.Usage()
		f.opt.Post(func() {
			f.sampling = false
			if err == nil {
				f.SampleTasks(tasks, at)
			}
		})
	}()
}

// SampleTasks takes what processes used at an instant.
func (f *Feed) SampleTasks(tasks []event.Task, at uint64) {
	usage := make([]leak.Usage, 0, 64)
	for i := range tasks {
		if t := &tasks[i]; f.set.Inside(t.ID) {
			usage = append(usage, leak.Usage{ID: t.ID, RSS: t.RSS, Swap: t.Swap, CPU: t.CPU})
		}
	}
	f.set.Sample(usage, at)
}

// Sample takes what members use, as usage tells it: false of whom it does not know.
func (f *Feed) Sample(usage func(event.ID) (describe.Use, bool), at uint64) {
	var list []leak.Usage
	for _, id := range f.set.MemberIDs() {
		if u, ok := usage(id); ok {
			list = append(list, leak.Usage{ID: id, RSS: u.RSS, Swap: u.Swap, CPU: uint64(u.CPU)})
		}
	}
	f.set.Sample(list, at)
}

// Members lists the living members of all leaks, in no order.
func (f *Feed) Members() []event.ID { return f.set.MemberIDs() }

// describe is what is kept of a leaker.
func (f *Feed) describe(l *tracker.Leaker) leak.Leaker {
	w := f.opt.Conv.Leaker(l)
	g := f.opt.Names.Group(l.ID, l.Cgroup, false)
	in, _ := f.opt.Names.Container(g)
	return leak.Leaker{ID: l.ID, Comm: l.Comm.String(), Cmdline: w.Cmdline, Exe: l.Filename, UID: l.UID,
		User: f.opt.Names.User(l.UID), Unit: g.UnitName(), Container: g.Unit.Container,
		ContainerName: in.Name, ContainerImage: in.Image, Pod: describe.Pod(in), Exited: l.End.Time, Exit: w.Exit,
		Fingerprint: f.fingerprint(l)}
}

// fingerprint is what the leak of a leaker is a case of.
func (f *Feed) fingerprint(l *tracker.Leaker) fingerprint.Fingerprint {
	g := f.opt.Names.Group(l.ID, l.Cgroup, false)
	in, _ := f.opt.Names.Container(g)
	return fingerprint.Of(caseOf(l, g.UnitName(), in))
}

// caseOf is what a leaker that stood in the unit, and in the container, is a case of.
func caseOf(l *tracker.Leaker, unit string, in container.Info) fingerprint.Case {
	return fingerprint.Case{Exe: l.Filename, Comm: l.Comm.String(), Cmdline: event.SplitCmdline(l.Cmdline), Unit: unit, Image: in.Image, Workload: in.Pod.FullName()}
}

func (f *Feed) tell(c *leak.Change) {
	w := f.leak(c.Leak, c.Time)
	w.Change, w.Threshold = c.Kind.String(), c.Threshold
	if c.Kind == leak.Opened {
		c.Leak.SetRemedy(string(remedy.KindOf(w, f.opt.KillMode(c.Leak.Leaker.Unit))))
	}
	w.Remedy = remedy.Of(remedy.Kind(c.Leak.Remedy))
	if c.Kind == leak.VerdictChanged {
		w.Previous = c.Previous.String()
	}
	f.events = append(f.events, &wire.Event{Type: wire.TypeLeak, Leak: w, TimeNS: c.Time})
}

// TakeEvents returns what is to be told, in order: each with the time at which it happened.
func (f *Feed) TakeEvents() []*wire.Event {
	events := f.events
	f.events = nil
	return events
}

// List returns the open leaks, and with ended those that are remembered, oldest first, each with
// its members and the evidence only where members asks for them. On the loop.
func (f *Feed) List(ended, members bool) []wire.Leak {
	describe, now := f.leak, boottime.Now()
	if !members {
		describe = f.figures
	}
	leaks := f.set.Open()
	if ended {
		leaks = append(slices.Clone(f.set.Ended()), leaks...)
	}
	list := make([]wire.Leak, 0, len(leaks))
	for _, l := range leaks {
		list = append(list, *describe(l, now))
	}
	slices.SortStableFunc(list, func(a, b wire.Leak) int { return cmp.Compare(a.OpenedNS, b.OpenedNS) })
	return list
}

// Programs returns what is counted of leaks by the program that left them. On the loop.
func (f *Feed) Programs() map[string]leak.Counts { return f.set.Programs(boottime.Now()) }

// Get returns one leak by its id, nil where there is none. On the loop.
func (f *Feed) Get(id string) *wire.Leak {
	l := f.set.Get(id)
	if l == nil {
		return nil
	}
	w := f.leak(l, boottime.Now())
	w.Remedy = remedy.Of(remedy.Kind(l.Remedy))
	return w
}

// Export returns what a successor needs to Import.
func (f *Feed) Export() ([]byte, error) { return leak.EncodeRecords(f.set.Export()) }

// Import takes what Export has kept, into a feed that has seen nothing yet. Resynced must
// follow when the tree is whole.
func (f *Feed) Import(records []leak.Record) {
	f.set.Import(records)
	for _, id := range f.set.MemberIDs() {
		f.opt.Tree.SetLeak(id, f.set.IDOf(id))
	}
}

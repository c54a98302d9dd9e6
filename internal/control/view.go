// SPDX-License-Identifier: Apache-2.0

package control

import (
	"maps"
	"strings"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A view shows the tracer's tree to the policy, with what the last sample measured.
// It belongs to the tracer's loop, and is valid there only.
type view struct {
	tracer *trace.Tracer
	tree   *tracker.Tree
	// Somebody asks for control groups, or for containers, which may take a look each.
	units, containers bool

	pass  *sample.Pass // nil before the first
	proc  procfs.FS
	users *userIDs
	trust *trust.Book // nil where nothing can be decided
	self  ownLine
	facts map[event.ID]details
	held  map[event.ID]*policy.Held // what was read of processes
	asked map[event.ID]bool         // of whom that is to be read
	// pruneAt is how many of them have the dead among them dropped.
	pruneAt int
	// These are methods of v, bound once.
	ask, askUIDs func(*policy.Process)
	askHeld      func(event.ID)

	// Found out since the loop has lent the tree, which does not change meanwhile.
	ours map[event.ID]struct{} // our own descendants; nil where it was not asked
	sums map[event.ID]treeSum
}

// A treeSum is the memory of a process and of all that live below it, in bytes.
type treeSum struct {
	bytes uint64
	known bool // of one of them at least
}

// details are what procfs alone tells, kept as long as the process runs one program.
type details struct {
	program string // what was exec'd, to notice another
	exe     string
	oomAdj  int
	at      uint64 // when oomAdj was read: CLOCK_BOOTTIME, ns; 0 where it could not be
}

// leastDetails is how many details are kept before anybody looks whose processes are gone.
// Above, there are at most twice as many as processes live.
const leastDetails = 1024

func newView(t *trace.Tracer, users *userIDs) *view {
	v := &view{tracer: t, users: users, facts: make(map[event.ID]details),
		held: make(map[event.ID]*policy.Held), asked: make(map[event.ID]bool)}
	v.self = newOwnLine(v.proc)
	v.ask, v.askUIDs = v.complete, v.fillUIDs
	v.askHeld = func(id event.ID) { v.asked[id] = true }
	return v
}

// noteNeeds notes what the engine's rules and protection look at.
func (v *view) noteNeeds(e *policy.Engine) {
	v.units = v.units || e.AsksUnits()
	v.containers = v.containers || e.AsksContainers()
}

// Orphans implements policy.View.
func (v *view) Orphans(yield func(event.ID) bool) {
	for id := range v.tree.OrphanIDs() {
		if !yield(id) {
			return
		}
	}
}

// Process implements policy.View.
func (v *view) Process(id event.ID, p *policy.Process) bool {
	t, ok := v.tree.Get(id)
	if !ok {
		return false
	}
	*p = policy.Process{
		ID:       t.ID,
		Spawner:  t.Spawner,
		Observed: t.Lineage == tracker.LineageObserved,
		Dead:     t.Dead,
		Comm:     t.Comm.String(),
		Exe:      t.Filename,
		Cmdline:  joinWords(t.Cmdline),
		UID:      t.UID,
		User:     v.tracer.User(t.UID),
		Kthread:  t.Kthread,

		Keep: t.MarksKnown && t.Keep, MarksKnown: t.MarksKnown, Unread: t.Unread,
	}
	if !t.Dead {
		v.living(&t, p)
	}
	if o := t.Orphan; o != nil && !t.Dead {
		p.Orphan, p.Verdict, p.Since, p.Leak = true, verdictOn(o), o.Since, o.Leak
		p.Observed = p.Observed && o.Observed
		p.Abandoned = o.Abandoned
		if o.Leaker != nil {
			p.LeakerCmdline = joinWords(o.Leaker.Cmdline)
		}
		if o.Leaker != nil && o.Leaker.End.Known {
			p.Leaker = &o.Leaker.End.UIDs
		}
	}
	return true
}

// joinWords is a NUL-separated command line with single spaces between its words.
func joinWords(cmdline string) string {
	return strings.ReplaceAll(strings.TrimSuffix(cmdline, "\x00"), "\x00", " ")
}

// verdictOn is the verdict on an orphan. One that a snapshot has found is never judged;
// one that is being judged has none yet, or a provisional one, which no rule matches.
func verdictOn(o *tracker.Orphan) string {
	if o.Provisional {
		return ""
	}
	if o.Verdict == "" && o.Leaker == nil {
		return wire.VerdictUnknown
	}
	return o.Verdict
}

// living adds what only a living process has.
func (v *view) living(t *tracker.Process, p *policy.Process) {
	if v.units {
		p.Cgroup, p.Unit = v.tracer.Group(t)
	}
	if v.containers {
		p.Container = v.container(t)
	}
	p.Exempt = v.exempt(t.ID)
	p.Held, p.AskHeld = v.held[t.ID], v.askHeld
	p.Complete, p.AskUIDs, p.UserOf, p.ReadMarks = v.ask, v.askUIDs, v.tracer.User, v.tracer.ReadSoon
	if v.pass == nil {
		return
	}
	if u, ok := v.pass.Get(t.ID); ok {
		p.RSS, p.Swap, p.MemoryKnown = u.RSS, u.Swap, true
		p.Threads = u.Threads
		if u.CPUKnown {
			p.CPUPercent, p.CPUKnown = u.CPUPercent, true
		}
	}
}

// container is the container that the process is in.
func (v *view) container(t *tracker.Process) policy.Container {
	id, info, known := v.tracer.Container(t)
	return policy.Container{ContainerID: id, ContainerName: info.Name, Image: info.Image, Pod: info.Pod.FullName(),
		RootsContainer: info.Roots, ContainerPending: !known}
}

// complete adds what takes a look at a living process, and only some ask for.
func (v *view) complete(p *policy.Process) {
	p.Ours = v.relation(p.ID)
	d := v.details(p)
	p.OOMScoreAdj = d.oomAdj
	if d.exe != "" {
		p.Exe = d.exe
	}
}

// fillUIDs adds whose a living process is now.
func (v *view) fillUIDs(p *policy.Process) {
	ids, err := v.users.get(p.ID)
	if p.UIDsKnown = err == nil; p.UIDsKnown {
		p.UIDs, p.UID, p.User = ids, ids.Real, v.tracer.User(ids.Real)
	}
}

func (v *view) relation(id event.ID) policy.Relation {
	if relation := v.self.relation(id); relation != policy.NotOurs {
		return relation
	}
	if v.ours == nil {
		v.ours = make(map[event.ID]struct{})
		if self, ok := v.tree.Lookup(v.self.pid()); ok {
			for id := range v.tree.Descendants(self) {
				v.ours[id] = struct{}{}
			}
		}
	}
	if _, ok := v.ours[id]; ok {
		return policy.OurDescendant
	}
	return policy.NotOurs
}

// details are those of a process of which nothing more is known than the program that
// it executed.
func (v *view) details(p *policy.Process) details {
	if d, ok := v.facts[p.ID]; ok && d.program == p.Exe {
		return d
	}
	if len(v.facts) >= v.pruneAt {
		maps.DeleteFunc(v.facts, func(id event.ID, _ details) bool { return !v.tree.Has(id) })
		v.pruneAt = max(2*len(v.facts), leastDetails)
	}
	// Should another process have the pid by now, this one is dead, and what is said of
	// it changes nothing.
	d := details{program: p.Exe}
	d.exe, _ = v.proc.Exe(p.ID.PID)
	now := boottime.Now()
	var err error
	if d.oomAdj, err = v.proc.OOMScoreAdj(p.ID.PID); err == nil {
		d.at = now
	}
	v.facts[p.ID] = d
	return d
}

// oomAdj is the process's oom_score_adj as it was read, now or less than cacheFor ago.
func (v *view) oomAdj(id event.ID) (int, error) {
	if d, ok := v.facts[id]; ok && d.at+uint64(cacheFor) > boottime.Now() {
		return d.oomAdj, nil
	}
	return v.proc.OOMScoreAdj(id.PID)
}

// Children implements policy.View.
func (v *view) Children(id event.ID, yield func(event.ID) bool) {
	for child := range v.tree.Children(id) {
		if !yield(child) {
			return
		}
	}
}

// Leak implements policy.View. Orphans that nobody has judged yet may be of any leak.
func (v *view) Leak(id string) (policy.Leak, bool) {
	held, ok := v.tracer.Leaks().Held(id)
	l := policy.Leak{Processes: held.Processes, Bytes: held.RSS + held.Swap, BytesKnown: held.Sampled}
	if held.Pending || v.tracer.IsJudging() {
		l.SettlesAt = held.OpenedAt + uint64(policy.LeakSettles)
	}
	return l, ok
}

// TreeMemory implements policy.View. However many are asked about, each process is added up
// once.
func (v *view) TreeMemory(id event.ID) (uint64, bool) {
	if v.pass == nil {
		return 0, false
	}
	if sum, ok := v.sums[id]; ok {
		return sum.bytes, sum.known
	}
	if v.sums == nil {
		v.sums = make(map[event.ID]treeSum)
	}
	type visit struct {
		id    event.ID
		below bool // all below it is added up
	}
	todo := []visit{{id: id}}
	for len(todo) > 0 {
		at := &todo[len(todo)-1]
		if at.below {
			v.sums[at.id] = v.sum(at.id)
			todo = todo[:len(todo)-1]
			continue
		}
		at.below = true
		for child := range v.tree.Children(at.id) {
			if _, ok := v.sums[child]; !ok {
				todo = append(todo, visit{id: child})
			}
		}
	}
	sum := v.sums[id]
	return sum.bytes, sum.known
}

// sum adds a process to what its children are known to hold with all below them.
func (v *view) sum(id event.ID) (s treeSum) {
	if u, ok := v.pass.Get(id); ok {
		s = treeSum{u.RSS + u.Swap, true}
	}
	for child := range v.tree.Children(id) {
		below := v.sums[child]
		s.bytes += below.bytes
		s.known = s.known || below.known
	}
	return s
}

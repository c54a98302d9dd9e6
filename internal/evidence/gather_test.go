// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// firstPID is above every pid that Linux gives: nothing here is ever found in /proc.
const firstPID = 1 << 23

func proc(n int) event.ID { return event.ID{PID: firstPID + int32(n), Start: uint64(1000 + n)} }

// A world is a gatherer with a tree that its test feeds.
type world struct {
	*Gatherer
	tree   *tracker.Tree
	leases *lease.Table
	posted chan func() // to be run on the loop
}

func newWorld() *world {
	w := &world{tree: tracker.New(0), posted: make(chan func(), 16)}
	w.leases = lease.NewTable(w.tree)
	w.Gatherer = New(Options{Tree: w.tree, Names: describe.NewNames(w.tree), Leases: w.leases,
		Post: func(fn func()) { w.posted <- fn }})
	return w
}

// apply applies records, and hands new orphans on as the loop does.
func (w *world) apply(records ...event.Event) {
	for _, e := range records {
		e.Time = e.Subject.Start
		for _, c := range slices.Clone(w.tree.Apply(&e)) {
			switch c.Kind {
			case tracker.Orphaned, tracker.OrphanedAgain:
				w.Orphaned(c.ID)
			case tracker.Exited:
				w.Exited(c.ID)
			case tracker.Missed:
				w.MissedExec(c.ID)
			}
		}
	}
}

func origin() event.Origin {
	pipe := event.File{Dev: 13, Ino: 4711, Mode: 0o010000}
	return event.Origin{Session: firstPID, StdioKnown: true, Stdio: event.Stdio{pipe, pipe, pipe}}
}

func fork(parent, child int) event.Event {
	return event.Event{Kind: event.KindFork, Subject: proc(child), Comm: event.MakeComm("worker"),
		Fork: event.Fork{Spawner: proc(parent), Caller: proc(parent), Origin: origin()}}
}

func execed(n int) event.Event {
	return event.Event{Kind: event.KindExec, Subject: proc(n), Ordinal: 1, Comm: event.MakeComm("worker"),
		Exec: event.Exec{Origin: origin(), Filename: "/bin/worker", Cmdline: "worker\x00", MarksKnown: true}}
}

func atDeath(parent, child int) event.Event {
	return event.Event{Kind: event.KindChild, Subject: proc(child), Child: event.Child{Parent: proc(parent), Origin: origin()}}
}

func killed(n int) event.Event {
	return event.Event{Kind: event.KindExit, Subject: proc(n), Comm: event.MakeComm("worker"), Exit: event.Exit{Status: 9, HasChildren: true}}
}

// news judges what is new, and returns what there is to tell, by process.
func (w *world) next() map[event.ID]News {
	w.Judge(8)
	news := make(map[event.ID]News)
	for _, n := range w.TakeNews() {
		news[n.Process.ID] = n
	}
	return news
}

// answer runs what answers have posted until there are news, which it returns.
func (w *world) answer() map[event.ID]News {
	for !w.HasNews() {
		(<-w.posted)()
	}
	return w.next()
}

func (w *world) check(t *testing.T, news map[event.ID]News, n int, want string, provisional bool) {
	t.Helper()
	got, ok := news[proc(n)]
	if !ok {
		t.Errorf("%d: not told", n)
		return
	}
	o := got.Process.Orphan
	if o.Verdict != want || o.Provisional != provisional || len(o.Evidence) == 0 {
		t.Errorf("%d: %s, provisional %v, %q; want %s, %v", n, o.Verdict, o.Provisional, o.Evidence, want, provisional)
	}
	if p, _ := w.tree.Get(proc(n)); p.Orphan == nil || p.Orphan.Verdict != want || p.Orphan.Provisional != provisional {
		t.Errorf("%d: the tree has %+v, want %s", n, p.Orphan, want)
	}
}

// TestJudge wants an orphan judged at once where the records tell all that counts, and one
// that is stranded by itself: its state cannot be read here.
func TestJudge(t *testing.T) {
	w := newWorld()
	w.apply(fork(0, 1), execed(1), fork(1, 2), fork(2, 3), atDeath(1, 2), killed(1))
	if !w.HasNews() {
		t.Fatal("no orphan")
	}
	news := w.next()
	if len(news) != 2 || !news[proc(2)].First || !news[proc(3)].First {
		t.Errorf("news %+v, want the two of them", news)
	}
	w.check(t, news, 2, verdict.Leaked, false)
	w.check(t, news, 3, verdict.Unknown, false)
	if w.HasNews() {
		t.Error("there is news left")
	}
}

// TestJudgeWithoutMarks wants one whose marks are asked for told at once, and again when the
// answer is in.
func TestJudgeWithoutMarks(t *testing.T) {
	w := newWorld()
	w.apply(fork(0, 1), fork(1, 2), atDeath(1, 2), killed(1))
	w.check(t, w.next(), 2, verdict.Unknown, true)
	news := w.answer()
	w.check(t, news, 2, verdict.Unknown, false)
	if n := news[proc(2)]; n.First || n.Previous != verdict.Unknown || n.Reason == "" {
		t.Errorf("news %+v, want another verdict", n)
	}
}

// TestJudgeAgain wants one whose own spawner dies later judged by that death, and told.
func TestJudgeAgain(t *testing.T) {
	w := newWorld()
	left := killed(1)
	left.Exit.Status = 0
	w.apply(fork(0, 1), execed(1), fork(1, 2), fork(2, 3), atDeath(1, 2), left)
	w.check(t, w.next(), 2, verdict.Unknown, false)
	w.apply(atDeath(2, 3), killed(2))
	news := w.next()
	w.check(t, news, 3, verdict.Leaked, false)
	if n := news[proc(3)]; n.First || n.Previous != verdict.Unknown || n.Process.Orphan.Leaker.ID != proc(2) {
		t.Errorf("news %+v, want it judged by the death of %v", n, proc(2))
	}
}

// TestJudgeByTie wants one whose launcher left in order judged by the death of who lived
// above that.
func TestJudgeByTie(t *testing.T) {
	w := newWorld()
	left := killed(2)
	left.Exit.Status = 0
	w.apply(fork(0, 1), execed(1), fork(1, 2), execed(2), fork(2, 3), atDeath(2, 3), left)
	w.check(t, w.next(), 3, verdict.Unknown, false)
	w.apply(killed(1))
	w.next()
	p, _ := w.tree.Get(proc(3))
	if o := p.Orphan; o == nil || o.Leaker.ID != proc(1) || !o.ByTie {
		t.Errorf("got %+v, want it judged by the death of %v", o, proc(1))
	}
}

// TestQuiet wants nobody told of what the tracer's own process left behind.
func TestQuiet(t *testing.T) {
	w := newWorld()
	w.tree.SetSelf(proc(9).PID)
	w.apply(fork(0, 9), fork(0, 1), execed(1), fork(1, 2), atDeath(1, 2))
	w.apply(event.Event{Kind: event.KindSignal, Subject: proc(1), Signal: event.Signal{Signal: 9, Effect: event.Fatal, Sender: proc(9)}}, killed(1))
	if n, ok := w.next()[proc(2)]; !ok || !n.Quiet {
		t.Errorf("got %+v, want it quiet", n)
	}
}

// TestJudgeUnderLease wants the descendants of a lease's dead holder judged by it.
func TestJudgeUnderLease(t *testing.T) {
	w := newWorld()
	w.apply(fork(0, 1), execed(1), fork(1, 2), atDeath(1, 2))
	w.leases.Hold(lease.Lease{Holder: proc(1)})
	end := killed(1)
	end.Exit.Status = 0 // in order: without the lease nothing would speak for a leak
	w.apply(end)
	holder, _ := w.tree.Get(proc(1))
	w.leases.ObserveExit(&holder)
	w.check(t, w.next(), 2, verdict.Leaked, false)
}

// TestMissedExec wants it told what a lost record of an exec makes of a verdict, and then, with
// the right reason, what the process itself says when it is read.
func TestMissedExec(t *testing.T) {
	w := newWorld()
	w.apply(fork(0, 1), execed(1), fork(1, 2), execed(2), atDeath(1, 2), killed(1))
	w.check(t, w.next(), 2, verdict.Leaked, false)
	copied := fork(2, 3)
	copied.ExecID = 2 // of a second program, which nobody saw it execute
	w.apply(copied)
	news := w.next()
	w.check(t, news, 2, verdict.Unknown, false)
	if n := news[proc(2)]; n.First || n.Previous != verdict.Leaked || n.Reason != "an exec whose record was lost" {
		t.Errorf("the loss is told as %+v", n)
	}
	p, _ := w.tree.Get(proc(2))
	w.takeReadings([]reading{{id: p.ID, program: p.Program, exe: "/bin/kept", line: "kept\x00", words: true, marks: &procfs.Marks{Keep: true}}})
	news = w.next()
	w.check(t, news, 2, verdict.Deliberate, false)
	if n := news[proc(2)]; n.First || n.Previous != verdict.Unknown || n.Reason != "what was read of its program and its environment" {
		t.Errorf("the mark is told as %+v", n)
	}
}

// manager is a service manager that answers no question in time, and tells what it is let tell.
type manager map[string]UnitState

func (manager) Unit(context.Context, int32) (UnitState, error) {
	return UnitState{}, context.DeadlineExceeded
}
func (m manager) Told(unit string) (UnitState, bool)      { state, ok := m[unit]; return state, ok }
func (manager) Watch(ctx context.Context, _ func(string)) { <-ctx.Done() }

// inGroups has the processes stand in control groups with these paths, by their ids.
func (w *world) inGroups(m manager, groups map[uint64]string) {
	known := describe.Known{Unified: true}
	for id, path := range groups {
		known.Groups = append(known.Groups, describe.KnownGroup{Cgroup: id, Path: path})
	}
	w.Gatherer = New(Options{Tree: w.tree, Names: describe.NewPastNames(w.tree, &known), Leases: w.leases, Owners: m,
		Post: func(fn func()) { w.posted <- fn }})
}

// in has what a record is about stand in a control group.
func in(cgroup uint64, e event.Event) event.Event {
	e.Fork.Cgroup, e.Exec.Cgroup = cgroup, cgroup
	return e
}

// TestManagerTooLate wants a question that the manager did not answer in time forgotten once it has
// told of the unit.
func TestManagerTooLate(t *testing.T) {
	w, m := newWorld(), manager{}
	w.inGroups(m, map[uint64]string{7: "/system.slice/x.service"})
	w.apply(in(7, fork(0, 1)), in(7, execed(1)), in(7, fork(1, 2)), in(7, execed(2)), in(7, atDeath(1, 2)), killed(1))
	w.check(t, w.next(), 2, verdict.Leaked, true)
	w.check(t, w.answer(), 2, verdict.Unknown, false)
	evidence := func() string {
		p, _ := w.tree.Get(proc(2))
		return strings.Join(p.Orphan.Evidence, "\n")
	}
	if !strings.Contains(evidence(), context.DeadlineExceeded.Error()) {
		t.Errorf("before it is told:\n%s", evidence())
	}
	m["x.service"] = UnitState{State: "active", SubState: "running", Type: "simple", KillMode: "control-group", MainPID: 1}
	w.UnitChanged("x.service")
	if got := evidence(); strings.Contains(got, context.DeadlineExceeded.Error()) || !strings.Contains(got, "x.service (active") {
		t.Errorf("when it is told:\n%s", got)
	}
}

// TestEndedByInit wants whom the init of his container asked to end to count as one who was asked
// to: the container is being stopped. Another process of it is a stranger to him, and so is the
// init of another one.
func TestEndedByInit(t *testing.T) {
	const own, other = "/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "/docker/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	for _, c := range []struct {
		name   string
		init   bool
		cgroup uint64
		want   verdict.By
	}{
		{"its init", true, 7, verdict.ByManager},
		{"another of its container", false, 7, verdict.ByStranger},
		{"the init of another", true, 8, verdict.ByStranger},
	} {
		w := newWorld()
		w.inGroups(nil, map[uint64]string{7: own, 8: other})
		sender := in(c.cgroup, fork(0, 5))
		sender.Fork.NSInit = c.init
		w.apply(sender, in(7, fork(0, 1)), in(7, execed(1)), in(7, fork(1, 2)), in(7, execed(2)), in(7, atDeath(1, 2)))
		w.apply(event.Event{Kind: event.KindSignal, Subject: proc(1), Signal: event.Signal{Signal: 15, Effect: event.Fatal, Sender: proc(5)}})
		end := killed(1)
		end.Exit.Status = 15
		w.apply(end)
		p, _ := w.tree.Get(proc(2))
		if got := w.facts(w.cases[proc(2)], &p).Leaker.Signal.By; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

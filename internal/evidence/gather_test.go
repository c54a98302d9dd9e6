// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"slices"
	"testing"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
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
			if c.Kind == tracker.Orphaned {
				w.Orphaned(c.ID)
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
		Exec: event.Exec{Filename: "/bin/worker", Cmdline: "worker\x00", MarksKnown: true}}
}

func atDeath(parent, child int) event.Event {
	return event.Event{Kind: event.KindChild, Subject: proc(child), Child: event.Child{Parent: proc(parent), Origin: origin()}}
}

func killed(n int) event.Event {
	return event.Event{Kind: event.KindExit, Subject: proc(n), Comm: event.MakeComm("worker"), Exit: event.Exit{Status: 9, HasChildren: true}}
}

// TestJudge wants an orphan judged at once where the records tell all that counts, with
// what was stranded with it, and later where somebody has to be asked.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		marked bool // the marks are known from an exec
		want   string
	}{
		{"all is known", true, verdict.Leaked},
		{"the marks are asked for, and cannot be read", false, verdict.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			w.apply(fork(0, 1))
			if tt.marked {
				w.apply(execed(1))
			}
			w.apply(fork(1, 2), fork(2, 3), atDeath(1, 2), killed(1))
			if !w.HasNews() {
				t.Fatal("no orphan")
			}
			w.Judge(8)
			if !tt.marked {
				if len(w.TakeJudged()) != 0 {
					t.Error("judged before the answer")
				}
				for !w.HasNews() {
					(<-w.posted)()
				}
			}
			judged := w.TakeJudged()
			if len(judged) != 1 || judged[0].Orphan.ID != proc(2) || len(judged[0].Stranded) != 1 || judged[0].Stranded[0].ID != proc(3) {
				t.Fatalf("judged %+v", judged)
			}
			if judged[0].Verdict != tt.want || len(judged[0].Evidence) == 0 {
				t.Errorf("%s, %q; want %s", judged[0].Verdict, judged[0].Evidence, tt.want)
			}
			for _, n := range []int{2, 3} {
				if p, _ := w.tree.Get(proc(n)); p.Orphan == nil || p.Orphan.Verdict != tt.want {
					t.Errorf("%d: the tree has %+v, want %s", n, p.Orphan, tt.want)
				}
			}
			if w.HasNews() {
				t.Error("there is news left")
			}
		})
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
	w.Judge(8)
	if judged := w.TakeJudged(); len(judged) != 1 || judged[0].Verdict != verdict.Leaked {
		t.Errorf("judged %+v, want it leaked", judged)
	}
}

// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// saved returns what the tracer, which runs, would leave to a successor.
func saved(t *testing.T, tracer *Tracer) map[string][]byte {
	t.Helper()
	sections := make(map[string][]byte)
	var err error
	if doErr := tracer.Do(t.Context(), func(*tracker.Tree) { err = tracer.Save(sections, nil) }); doErr != nil || err != nil {
		t.Fatal(doErr, err)
	}
	return sections
}

// TestRestore hands orphans, their verdicts, ages and the lineage to a successor, which
// goes on with the records of the gap.
func TestRestore(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0)}
	first := start(t, s, Options{})
	sub := first.Subscribe(wire.TypeOrphan)
	defer sub.Close()
	s.send(fork(0, 1), execed(1), fork(1, 2), execed(2), fork(2, 3), atDeath(1, 2), killed(1))
	next(t, sub)
	next(t, sub)
	sections := saved(t, first)
	want, err := first.Orphans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 2 {
		t.Fatalf("%d orphans, want 2", len(want))
	}

	gap := newScript()
	gap.tasks = []event.Task{task(0, 0), task(2, 0), task(3, 2), task(4, 0), task(6, 0)}
	second := New(gap, Options{})
	if err := second.Restore(sections, 0); err != nil {
		t.Fatal(err)
	}
	if n := second.Stats().Orphans; n != 2 {
		t.Errorf("%d orphans restored, want 2", n)
	}
	gap.send(fork(0, 4), execed(4), fork(4, 5), execed(5), fork(5, 6), atDeath(5, 6), killed(5))
	told := second.Subscribe(wire.TypeOrphan)
	defer told.Close()
	run(t, second)
	if e := next(t, told); e.Process.PID != proc(6).PID || e.Process.Lineage != wire.LineageObserved ||
		e.Process.Orphan.Leaker.PID != proc(5).PID || e.Process.Orphan.Verdict != wire.VerdictLeaked {
		t.Errorf("orphan of the gap: %+v", e.Process)
	}
	settled(t, second)
	if n := len(told.Events()); n != 0 {
		t.Errorf("%d more orphans were told", n)
	}
	for _, w := range want {
		p, err := second.Process(t.Context(), w.PID)
		if err != nil {
			t.Fatal(err)
		}
		// Who it is given to is asked anew, and these processes are not real.
		// The wall clock at boot is measured anew, and one process alone comes without figures.
		ignore := gocmp.FilterPath(func(p gocmp.Path) bool {
			field := p.Last().String()
			return field == ".Adopter" || field == ".Since" || field == ".Tree"
		}, gocmp.Ignore())
		if diff := gocmp.Diff(w.Orphan, p.Orphan, ignore); diff != "" {
			t.Errorf("orphan %d differs:\n%s", w.PID, diff)
		}
		if p.Lineage != wire.LineageObserved || p.SpawnedBy == nil || p.SpawnedBy.PID != w.SpawnedBy.PID {
			t.Errorf("orphan %d: lineage %s, spawned by %+v", w.PID, p.Lineage, p.SpawnedBy)
		}
	}
}

// TestRestoreJudges gives their verdict to orphans whose tracer died over it.
func TestRestoreJudges(t *testing.T) {
	tree := tracker.New(0)
	for _, e := range []event.Event{fork(0, 1), execed(1), fork(1, 2), execed(2), fork(2, 3), atDeath(1, 2), killed(1)} {
		tree.Apply(&e)
	}
	export, err := tree.Export(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript()
	s.tasks = []event.Task{task(0, 0), task(2, 0), task(3, 2)}
	tracer := New(s, Options{})
	if err := tracer.Restore(map[string][]byte{SectionTree: export, SectionLeases: []byte("{}")}, 0); err != nil {
		t.Fatal(err)
	}
	sub := tracer.Subscribe(wire.TypeOrphan)
	defer sub.Close()
	run(t, tracer)
	ids := make(map[string]bool)
	// Of the stranded one the state cannot be read here.
	for n, want := range map[int]string{2: wire.VerdictLeaked, 3: wire.VerdictUnknown} {
		e := next(t, sub)
		ids[e.ID] = true
		if e.Process.PID != proc(2).PID && e.Process.PID != proc(3).PID {
			t.Errorf("got %d", e.Process.PID)
		}
		if e.Process.PID == proc(n).PID && e.Process.Orphan.Verdict != want {
			t.Errorf("got %d, %+v; want it %s", e.Process.PID, e.Process.Orphan, want)
		}
	}
	// Told again by another start, each has its id again.
	second := New(s, Options{})
	for second.IDPrefix() == tracer.IDPrefix() { // it changes with each millisecond
		second = New(s, Options{})
	}
	for _, n := range []int{2, 3} {
		if id := second.stream.OrphanEventID(proc(n)); !ids[id] {
			t.Errorf("%s is not among %v", id, ids)
		}
	}
}

// TestRestoreLeases keeps the leases that are held, and hands on those that ended
// while somebody below them lives.
func TestRestoreLeases(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0)}
	first := start(t, s, Options{})
	held := lease.Lease{Holder: proc(1), UID: 7, Grace: time.Second}
	ended := lease.Lease{Holder: proc(2), UID: 8, Grace: 2 * time.Second}
	s.send(fork(0, 1), fork(0, 2), fork(2, 3))
	if err := first.Do(t.Context(), func(*tracker.Tree) { first.Leases().Hold(held); first.Leases().Hold(ended) }); err != nil {
		t.Fatal(err)
	}
	sub := first.Subscribe(wire.TypeExit)
	defer sub.Close()
	s.send(killed(2))
	next(t, sub)
	sections := saved(t, first)

	told := make(chan lease.Lease, 2)
	gap := newScript()
	gap.tasks = []event.Task{task(0, 0), task(1, 0), task(3, 0)}
	second := New(gap, Options{OnLeaseEnd: func(l lease.Lease) { told <- l }})
	if err := second.Restore(sections, 0); err != nil {
		t.Fatal(err)
	}
	run(t, second)
	gap.send(fork(0, 4))
	select {
	case l := <-told:
		if ended.ExitSeen = true; l != ended {
			t.Errorf("got %+v, want %+v", l, ended)
		}
	case <-time.After(time.Minute):
		t.Fatal("the end of the lease was not told")
	}
	var leases []lease.Lease
	if err := second.Do(t.Context(), func(*tracker.Tree) { leases = second.Leases().Held() }); err != nil {
		t.Fatal(err)
	}
	if len(leases) != 1 || leases[0] != held {
		t.Errorf("held: %+v, want %+v", leases, held)
	}
}

// TestRestoreInPlace wants whoever holds the tree (the names of control groups do, and the
// leases) to go on with the one that was restored.
func TestRestoreInPlace(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0), task(1, 0)}
	sections := saved(t, start(t, s, Options{}))
	tracer := New(newScript(), Options{})
	held := tracer.TreeOnLoop()
	if err := tracer.Restore(sections, 0); err != nil {
		t.Fatal(err)
	}
	if held != tracer.TreeOnLoop() || !held.Has(proc(1)) {
		t.Error("the tree that was held is another one, or does not know what was restored")
	}
}

// TestRestoreRefuses changes nothing when a section is of no use.
func TestRestoreRefuses(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0), task(1, 0)}
	good := saved(t, start(t, s, Options{}))
	for name, sections := range map[string]map[string][]byte{
		"nothing":    {},
		"no tree":    {SectionLeases: good[SectionLeases]},
		"no leases":  {SectionTree: good[SectionTree]},
		"bad leases": {SectionTree: good[SectionTree], SectionLeases: []byte("{")},
	} {
		t.Run(name, func(t *testing.T) {
			tracer := New(newScript(), Options{})
			if err := tracer.Restore(sections, 0); err == nil {
				t.Error("restored")
			}
			if tracer.tree.Living() > 0 || len(tracer.leases.Held()) > 0 {
				t.Error("something was changed")
			}
		})
	}
}

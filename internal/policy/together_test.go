// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func inLeak(leak string) func(*Process) { return func(p *Process) { p.Leak = leak } }

// workers is a dead spawner 10, and its leaked children 20 to 20+n-1 since 100 s, all of one
// leak.
func workers(n int32) *forest {
	f := newForest()
	f.add(10, 0, dead)
	for i := range n {
		f.add(20+i, 10, orphan(verdict.Leaked, 100*time.Second), inLeak("L1"))
	}
	f.leaks["L1"] = Leak{Processes: int(n)}
	return f
}

func rootPIDs(d *Decision) (pids []int32) {
	for _, root := range d.Roots() {
		pids = append(pids, root.PID)
	}
	return pids
}

// TestOneDecisionForALeak: sixteen workers of one dead parent are one decision, by each rule,
// of all that are due and of nobody else.
func TestOneDecisionForALeak(t *testing.T) {
	f, now := workers(16), at(200*time.Second)
	f.add(90, 10, orphan(verdict.Leaked, 100*time.Second), inLeak("L2"))
	f.processes[id(25)].Cmdline = "node"
	f.processes[id(26)].Keep = true
	f.processes[id(27)].Observed = false
	f.processes[id(28)].Verdict = verdict.Unknown
	e := mustEngine(t, Rule{Name: "rule", Mode: wire.ModeEnforce, Verdict: []string{"unknown", "leaked"}, Match: Match{"cmdline": "python3"}})
	got := e.Evaluate(f, idleHost(), now)
	if len(got) != 3 {
		t.Fatalf("%d decisions, want one on what can be ended of L1, one on what cannot, and one on L2: %+v", len(got), got)
	}
	all := &got[0]
	want := []int32{20, 21, 22, 23, 24, 28, 29, 30, 31, 32, 33, 34, 35}
	if !slices.Equal(rootPIDs(all), want) || !slices.Equal(pids(all.Targets), want) || all.Leak != "L1" || all.Root != id(20) ||
		all.Verdict != verdict.Leaked || !all.Enforces() {
		t.Errorf("got %+v, want the trees %v", all, want)
	}
	if last := all.Reasons[len(all.Reasons)-1]; !strings.Contains(last, "13 trees of the leak") {
		t.Errorf("reasons: %q", all.Reasons)
	}
	if withheld := &got[1]; !slices.Equal(rootPIDs(withheld), []int32{27}) || withheld.Enforces() {
		t.Errorf("got %+v, want 27 reported", withheld)
	}
	if other := &got[2]; !slices.Equal(rootPIDs(other), []int32{90}) || other.Leak != "L2" {
		t.Errorf("got %+v, want 90 by itself", other)
	}
	if again := e.Evaluate(f, idleHost(), now+1); len(again) != 0 {
		t.Errorf("and again: %+v", again)
	}
	e.Defer(all, 0)
	if again := e.Evaluate(f, idleHost(), now+2); len(again) != 1 || len(again[0].Trees) != 13 {
		t.Errorf("put off: %+v", again)
	}
}

// TestHoldsTreeByTree: what a tree of a leak has become after the decision speaks for that tree
// alone; what another tree's end changes speaks for none.
func TestHoldsTreeByTree(t *testing.T) {
	now := at(200 * time.Second)
	decide := func() (*Engine, *forest, *Decision) {
		f := workers(3)
		e := mustEngine(t, Rule{Name: "rule", Match: Match{"cmdline": "work", "leak_processes_above": 2}})
		d := e.Evaluate(f, idleHost(), now)
		if len(d) != 1 || len(d[0].Trees) != 3 {
			t.Fatalf("got %+v", d)
		}
		return e, f, &d[0]
	}
	changes := map[string]func(*forest){
		"deliberate now":  func(f *forest) { f.processes[id(21)].Verdict = verdict.Deliberate },
		"another program": func(f *forest) { f.processes[id(21)].Cmdline = "node" },
		"kept now":        func(f *forest) { f.processes[id(21)].Keep = true },
		"protected now":   func(f *forest) { f.processes[id(21)].MainPID = true },
		"dead":            func(f *forest) { f.processes[id(21)].Dead = true },
	}
	for name, change := range changes {
		for _, begun := range []bool{false, true} {
			e, f, d := decide()
			if begun {
				d.Begin([]event.ID{id(20)})
				f.leaks["L1"] = Leak{Processes: 2} // 20 is dead of it
			}
			change(f)
			ok, why := e.Holds(f, idleHost(), d, now)
			targets, _ := e.Targets(f, d)
			if !ok || !slices.Equal(pids(targets), []int32{20, 22}) {
				t.Errorf("%s, begun %v: holds %v (%s), left %v", name, begun, ok, why, pids(targets))
			}
		}
	}
	e, f, d := decide()
	f.leaks["L1"] = Leak{Processes: 2}
	if ok, why := e.Holds(f, idleHost(), d, now); ok || why != "its leak has 2 processes, not more than 2" || len(d.Trees) != 3 {
		t.Errorf("shrunk before the first signal: %v %q, %d trees", ok, why, len(d.Trees))
	}
}

// TestWaitsForVerdicts: a decision upon one tree of a leak waits for the verdicts on the
// others, but no longer than they can take; a look that somebody asks for does not.
func TestWaitsForVerdicts(t *testing.T) {
	opened := at(100 * time.Second)
	settles := opened + uint64(verdict.Settles)
	begin := func() (*Engine, *forest) {
		f := workers(3)
		f.processes[id(21)].Verdict, f.processes[id(22)].Verdict = "", ""
		f.leaks["L1"] = Leak{Processes: 3, SettlesAt: settles}
		return mustEngine(t, Rule{Name: "rule"}), f
	}
	e, f := begin()
	if got := e.EvaluateOrphans(f, idleHost(), []event.ID{id(20)}, opened+1); len(got) != 0 {
		t.Fatalf("acts before the others are judged: %+v", got)
	}
	f.processes[id(21)].Verdict = verdict.Leaked
	if got := e.EvaluateOrphans(f, idleHost(), []event.ID{id(21)}, opened+2); len(got) != 0 {
		t.Fatalf("acts before the last is judged: %+v", got)
	}
	f.processes[id(22)].Verdict = verdict.Deliberate
	f.leaks["L1"] = Leak{Processes: 2}
	got := e.EvaluateOrphans(f, idleHost(), []event.ID{id(22)}, opened+3)
	if len(got) != 1 || !slices.Equal(rootPIDs(&got[0]), []int32{20, 21}) {
		t.Errorf("all are judged: %+v", got)
	}

	e, f = begin()
	e.EvaluateOrphans(f, idleHost(), []event.ID{id(20)}, opened+1)
	if at, ok := e.NextDeadline(); !ok || at != settles {
		t.Errorf("deadline %d %v, want %d", at, ok, settles)
	}
	if got := e.Due(f, idleHost(), settles); len(got) != 1 || !slices.Equal(rootPIDs(&got[0]), []int32{20}) {
		t.Errorf("when they should be judged: %+v", got)
	}

	e, f = begin()
	e.ActAtOnce()
	if got := e.Evaluate(f, idleHost(), opened+1); len(got) != 1 {
		t.Errorf("asked to act at once: %+v", got)
	}
}

// TestDeferTrees takes single trees out of a decision.
func TestDeferTrees(t *testing.T) {
	f, now := workers(3), at(200*time.Second)
	e := mustEngine(t, Rule{Name: "rule"})
	d := e.Evaluate(f, idleHost(), now)[0]
	if !e.DeferTrees(f, &d, now+5, func(root event.ID) bool { return root == id(20) }) ||
		!slices.Equal(pids(d.Targets), []int32{21, 22}) || d.Root != id(21) {
		t.Errorf("left: %+v", d)
	}
	if got := e.Due(f, idleHost(), now+5); len(got) != 1 || !slices.Equal(rootPIDs(&got[0]), []int32{20}) {
		t.Errorf("put off: %+v", got)
	}
	if e.DeferTrees(f, &d, now+7, func(event.ID) bool { return true }) || len(d.Trees) != 2 {
		t.Errorf("all put off: %+v", d)
	}
}

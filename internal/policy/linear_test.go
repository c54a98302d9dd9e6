// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// A counting view counts how often it is asked about a process.
type counting struct {
	View
	asked int
}

func (c *counting) Process(id event.ID, p *Process) bool {
	c.asked++
	return c.View.Process(id, p)
}

func (c *counting) Children(id event.ID, yield func(event.ID) bool) {
	c.asked++
	c.View.Children(id, yield)
}

// shapes are what n orphans of one death can look like.
var shapes = []struct {
	name string
	make func(n int) *grove
}{
	{"chain", func(n int) *grove { return newLine(n, 1, func(int) string { return verdict.Leaked }) }},
	{"broad", func(n int) *grove { return newLine(n, n, func(int) string { return verdict.Leaked }) }},
	{"comb", func(n int) *grove { // half of it a chain, each with a leaf
		return newLine(n, 2, func(int) string { return verdict.Leaked })
	}},
	{"chain of many verdicts", func(n int) *grove {
		return newLine(n, 1, func(i int) string { return Verdicts[i%len(Verdicts)] })
	}},
}

// newLine makes n orphans, each with so many children as long as there are any: the first of
// them goes on. All are children of a dead process.
func newLine(n, children int, verdictOf func(i int) string) *grove {
	g := &grove{processes: make([]Process, n+2), children: make([][]event.ID, n+2)}
	g.processes[1] = Process{ID: event.ID{PID: 1, Start: 1}, Dead: true, Observed: true, Cmdline: "owner"}
	above := 1
	for i := 2; i < len(g.processes); i++ {
		if i > 2 && (i-2)%children == 0 {
			above = i - children
			if above < 2 {
				above = 2
			}
		}
		p := Process{ID: event.ID{PID: int32(i), Start: uint64(i)}, Spawner: g.processes[above].ID, Observed: true,
			Comm: "python3", Exe: "/usr/bin/python3.11", Cmdline: "python3 work", UID: 1000, User: "app", RSS: 1 << 20,
			MemoryKnown: true, MarksKnown: true, UIDsKnown: true, Leaker: &event.UIDs{}, Orphan: true, Verdict: verdictOf(i), Since: uint64(time.Minute)}
		g.orphans = append(g.orphans, p.ID)
		g.children[above] = append(g.children[above], p.ID)
		g.processes[i] = p
	}
	return g
}

// rulesOfAllKinds look at relatives in every way that a rule can.
func rulesOfAllKinds() []Rule {
	return []Rule{
		{Name: "acts", Verdict: []string{verdict.Leaked}},
		{Name: "waits", Verdict: []string{verdict.Leaked}, For: time.Hour},
		{Name: "ages", Match: Match{"orphaned_for": 30 * time.Minute}},
		{Name: "never matches above", Match: Match{"spawned_by": "nobody"}},
		{Name: "matches above", Match: Match{"spawned_by": "^owner"}, Verdict: Verdicts},
		{Name: "tells", Action: ActionNotify, Verdict: Verdicts},
		{Name: "memory", Match: Match{"memory_above": uint64(1 << 40)}},
		{Name: "when", Match: Match{"when": "process.tree_bytes > 1e15"}},
	}
}

// TestPassIsLinear wants a pass to look at each process a bounded number of times, however
// deep or broad the tree is: on every way in, and also when the rules have acted.
func TestPassIsLinear(t *testing.T) {
	const n = 10000
	most := (2*len(rulesOfAllKinds()) + 6) * n
	now := uint64(20 * time.Minute)
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			g := shape.make(n)
			e := mustEngine(t, rulesOfAllKinds()...)
			for _, look := range []struct {
				name string
				at   func(View) []Decision
			}{
				{"as orphans", func(v View) []Decision { return e.EvaluateOrphans(v, idleHost(), g.orphans, now) }},
				{"again", func(v View) []Decision { return e.Evaluate(v, idleHost(), now) }},
				{"when due", func(v View) []Decision { return e.Due(v, idleHost(), now+uint64(time.Hour)) }},
				{"later", func(v View) []Decision { return e.Evaluate(v, idleHost(), now+uint64(2*time.Hour)) }},
			} {
				view := &counting{View: g}
				decisions := look.at(view)
				if view.asked > most {
					t.Errorf("%s: asked %d times about %d processes, at most %d wanted", look.name, view.asked, n, most)
				}
				if look.name == "as orphans" && len(decisions) == 0 {
					t.Error("nobody decided anything")
				}
			}
		})
	}
}

// TestDeepTreeIsOneDecision wants who is far below a tree's root to belong to it still.
func TestDeepTreeIsOneDecision(t *testing.T) {
	g := newLine(20000, 1, func(int) string { return verdict.Leaked })
	e := mustEngine(t, Rule{Name: "all", Verdict: []string{verdict.Leaked}}, Rule{Name: "below", Match: Match{"spawned_by": "^owner"}})
	decisions := e.Evaluate(g, idleHost(), uint64(time.Hour))
	if len(decisions) != 2 || len(decisions[0].Targets) != 20000 || len(decisions[1].Targets) != 20000 {
		t.Fatalf("got %d decisions", len(decisions))
	}
	if more := e.EvaluateOrphans(g, idleHost(), g.orphans[19000:], uint64(time.Hour)); len(more) != 0 {
		t.Errorf("%d more decisions about parts of it", len(more))
	}
}

func BenchmarkDeepAndBroad(b *testing.B) {
	for _, shape := range shapes {
		for _, n := range []int{100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				g, host := shape.make(n), idleHost()
				e := mustEngine(b, rulesOfAllKinds()...)
				b.ReportAllocs()
				for b.Loop() {
					e.Evaluate(g, host, uint64(20*time.Minute))
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/process")
			})
		}
	}
}

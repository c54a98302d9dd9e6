// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// grove is a View over slices: n processes in trees of four below dead spawners.
type grove struct {
	processes []Process
	orphans   []event.ID
	children  [][]event.ID
}

// newGrove makes one tree in every so many an orphan's; the others are owned.
func newGrove(n, every int) *grove {
	g := &grove{processes: make([]Process, n+2), children: make([][]event.ID, n+2)}
	for i := 2; i < len(g.processes); i++ {
		p := Process{ID: event.ID{PID: int32(i), Start: uint64(i)}, Observed: true, Comm: "python3",
			Exe: "/usr/bin/python3.11", Cmdline: "python3 -m celery worker --queue default", UID: 1000, User: "app",
			Unit: "analytics.service", RSS: 50 << 20, MemoryKnown: true,
			MarksKnown: true, UIDsKnown: true, UIDs: event.UIDs{Real: 1000, Effective: 1000, Saved: 1000}, Leaker: &event.UIDs{}}
		switch tree := (i - 2) / 4; {
		case i%4 == 2 && tree%every == 0:
			p.Orphan, p.Verdict, p.Since = true, verdict.Leaked, uint64(time.Minute)
			g.orphans = append(g.orphans, p.ID)
		case i%4 != 2:
			p.Spawner = g.processes[i-1].ID
			g.children[i-1] = append(g.children[i-1], p.ID)
		}
		g.processes[i] = p
	}
	return g
}

func (g *grove) Orphans(yield func(event.ID) bool) {
	for _, id := range g.orphans {
		if !yield(id) {
			return
		}
	}
}

func (g *grove) Process(id event.ID, p *Process) bool {
	if int(id.PID) >= len(g.processes) {
		return false
	}
	*p = g.processes[id.PID]
	return true
}

func (g *grove) Children(id event.ID, yield func(event.ID) bool) {
	for _, child := range g.children[id.PID] {
		if !yield(child) {
			return
		}
	}
}

func (g *grove) Leak(string) (Leak, bool) { return Leak{}, false }

func (g *grove) TreeMemory(id event.ID) (uint64, bool) {
	return 4 * g.processes[id.PID].RSS, true
}

// twentyRules are of every kind; each one is evaluated to its last condition, which
// does not hold, so that a pass costs the most and changes nothing.
func twentyRules() []Rule {
	var rules []Rule
	for i := range 5 {
		rules = append(rules,
			Rule{Name: fmt.Sprint("age", i), Match: Match{"exe": []string{"/usr/bin/python3*"}, "orphaned_for": 24 * time.Hour}},
			Rule{Name: fmt.Sprint("memory", i), Match: Match{"user": []string{"app"}, "memory_above": uint64(500 << 20)}},
			Rule{Name: fmt.Sprint("when", i), Match: Match{"unit": []string{"analytics*"}, "when": "host.memory_percent > 85"}},
			Rule{Name: fmt.Sprint("pattern", i), Match: Match{"cmdline": `multiprocessing\.(spawn|forkserver)`}})
	}
	return rules
}

func BenchmarkEvaluate(b *testing.B) {
	for _, bm := range []struct {
		name     string
		n, every int
	}{
		{"processes=10000/orphans=2500", 10000, 1},
		{"processes=10000/orphans=250", 10000, 10},
		{"processes=1000/orphans=250", 1000, 1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			g, host := newGrove(bm.n, bm.every), idleHost()
			e := mustEngine(b, twentyRules()...)
			b.ReportAllocs()
			for b.Loop() {
				if got := e.Evaluate(g, host, uint64(time.Hour)); len(got) != 0 {
					b.Fatalf("got %d decisions", len(got))
				}
			}
		})
	}
}

// BenchmarkEvaluateAllOrphans is the worst case: each of 10,000 processes is a
// candidate.
func BenchmarkEvaluateAllOrphans(b *testing.B) {
	g, host := newGrove(10000, 1), idleHost()
	g.orphans = g.orphans[:0]
	for i := 2; i < len(g.processes); i++ {
		p := &g.processes[i]
		p.Orphan, p.Verdict, p.Since = true, verdict.Leaked, uint64(time.Minute)
		g.orphans = append(g.orphans, p.ID)
	}
	e := mustEngine(b, twentyRules()...)
	b.ReportAllocs()
	for b.Loop() {
		e.Evaluate(g, host, uint64(time.Hour))
	}
}

func BenchmarkEvaluateOrphan(b *testing.B) {
	g, host := newGrove(10000, 1), idleHost()
	e := mustEngine(b, twentyRules()...)
	b.ReportAllocs()
	for b.Loop() {
		e.EvaluateOrphans(g, host, []event.ID{g.orphans[0]}, uint64(time.Hour))
		e.deadlines = e.deadlines[:0]
	}
}

// BenchmarkDecide is one orphan that a rule acts upon, with reasons and targets.
func BenchmarkDecide(b *testing.B) {
	g, host := newGrove(10000, 1), idleHost()
	e := mustEngine(b, append(twentyRules(), Rule{Name: "leaks"})...)
	b.ReportAllocs()
	for b.Loop() {
		if got := e.EvaluateOrphans(g, host, []event.ID{g.orphans[0]}, uint64(time.Hour)); len(got) != 1 {
			b.Fatalf("got %d decisions", len(got))
		}
		e.Forget(g.orphans[0])
		e.deadlines = e.deadlines[:0]
	}
}

// BenchmarkNextDeadline is what the loop asks before each wait.
func BenchmarkNextDeadline(b *testing.B) {
	g, host := newGrove(10000, 1), idleHost()
	e := mustEngine(b, twentyRules()...)
	e.Evaluate(g, host, uint64(time.Hour))
	for b.Loop() {
		if _, ok := e.NextDeadline(); !ok {
			b.Fatal("no deadline")
		}
	}
}

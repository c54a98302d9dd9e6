// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/verdict"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestScope: what of a tree is ended, and what is left out with what is below it.
func TestScope(t *testing.T) {
	keep := func(p *Process) { p.Keep = true }
	protected := func(p *Process) { p.Comm = "sshd" }
	inferred := func(p *Process) { p.Observed = false }
	tests := []struct {
		name   string
		rule   Rule
		member func(*Process) // of pid 30, which has the child 40
		want   []int32
		spared string
	}{
		{name: "whole tree", want: []int32{20, 30, 40, 31}},
		{name: "process", rule: Rule{Scope: wire.ScopeProcess}, want: []int32{20}},
		{name: "notify", rule: Rule{Action: ActionNotify}},
		{name: "kept", member: keep, want: []int32{20, 31}, spared: "ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{name: "marks not known", member: func(p *Process) { p.MarksKnown = false }, want: []int32{20, 31}, spared: marksUnknown},
		{name: "program not known", member: func(p *Process) { p.Unread = true }, want: []int32{20, 31}, spared: programUnknown},
		{name: "marks of a dead one not known", member: func(p *Process) { p.MarksKnown, p.Dead = false, true }, want: []int32{20, 40, 31}},
		{name: "protected", member: protected, want: []int32{20, 31}, spared: "protected: it is part of the login path"},
		{name: "not observed", member: inferred, want: []int32{20, 31}, spared: "who spawned it was not observed"},
		{name: "deliberate", member: orphan(verdict.Deliberate, 50*time.Second), want: []int32{20, 31},
			spared: "an orphan of its own, whose verdict is deliberate"},
		{name: "unknown", member: orphan(verdict.Unknown, 50*time.Second), want: []int32{20, 31},
			spared: "an orphan of its own, whose verdict is unknown"},
		{name: "unknown, listed", rule: Rule{Verdict: []string{"leaked", "unknown"}},
			member: orphan(verdict.Unknown, 50*time.Second), want: []int32{20, 30, 40, 31}},
		{name: "leaked", member: orphan(verdict.Leaked, 50*time.Second), want: []int32{20, 30, 40, 31}},
		{name: "dead", member: dead, want: []int32{20, 40, 31}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := leakedTree()
			if tt.member != nil {
				tt.member(f.processes[id(30)])
			}
			tt.rule.Name = "rule"
			decisions := mustEngine(t, tt.rule).Evaluate(f, idleHost(), at(200*time.Second))
			if len(decisions) != 1 {
				t.Fatalf("got %d decisions, want 1: %+v", len(decisions), decisions)
			}
			if got := pids(decisions[0].Targets); !slices.Equal(got, tt.want) {
				t.Errorf("targets: got %v, want %v", got, tt.want)
			}
			var spared string
			for _, s := range decisions[0].Spared {
				spared += s.Reason
			}
			if spared != tt.spared {
				t.Errorf("spared: got %q, want %q", spared, tt.spared)
			}
		})
	}
}

// TestTargetsWhileKilling: the tree grows while it is being ended, and what the kill
// itself orphans still belongs to it, whatever its verdict.
func TestTargetsWhileKilling(t *testing.T) {
	f := leakedTree()
	e := mustEngine(t, Rule{Name: "rule"})
	d := e.Evaluate(f, idleHost(), at(200*time.Second))[0]
	f.processes[id(20)].Dead = true
	orphan(verdict.Deliberate, 201*time.Second)(f.processes[id(30)])
	f.add(210, 31)
	f.add(211, 31, func(p *Process) { p.Keep = true })
	targets, spared := e.Targets(f, &d)
	if got, want := pids(targets), []int32{30, 40, 31, 210}; !slices.Equal(got, want) {
		t.Errorf("targets: got %v, want %v", got, want)
	}
	if len(spared) != 1 || spared[0].ID != id(211) {
		t.Errorf("spared: got %+v, want 211", spared)
	}
}

// TestSpared is the look before every signal.
func TestSpared(t *testing.T) {
	tests := []struct {
		name   string
		pid    int32
		change func(*Process)
		why    string
	}{
		{"root", 20, func(*Process) {}, ""},
		{"member", 30, func(*Process) {}, ""},
		{"root became protected", 20, func(p *Process) { p.OOMScoreAdj = -1000 }, "protected: its oom_score_adj is -1000"},
		{"member became protected", 30, func(p *Process) { p.Comm = "sshd" }, "protected: it is part of the login path"},
		{"member with a verdict of its own", 30, orphan(verdict.Deliberate, 150*time.Second),
			"an orphan of its own, whose verdict is deliberate"},
		{"member orphaned by the kill", 30, orphan(verdict.Deliberate, 201*time.Second), ""},
		{"root changed its verdict by the kill", 20, orphan(verdict.Unknown, 201*time.Second), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := leakedTree()
			e := mustEngine(t, Rule{Name: "rule"})
			d := e.Evaluate(f, idleHost(), at(200*time.Second))[0]
			tt.change(f.processes[id(tt.pid)])
			targets, spared := e.Targets(f, &d)
			why := "it is forgotten"
			if slices.Contains(pids(targets), tt.pid) {
				why = ""
			}
			for _, s := range spared {
				if s.ID.PID == tt.pid {
					why = s.Reason
				}
			}
			if why != tt.why {
				t.Errorf("got %q, want %q", why, tt.why)
			}
		})
	}
}

// TestHolds is the last look before the first signal.
func TestHolds(t *testing.T) {
	tests := []struct {
		name   string
		change func(*forest, *Host)
		why    string
	}{
		{"unchanged", func(*forest, *Host) {}, ""},
		{"dead", func(f *forest, _ *Host) { f.processes[id(20)].Dead = true }, "it is dead"},
		{"forgotten", func(f *forest, _ *Host) { delete(f.processes, id(20)) }, "it is dead"},
		{"adopted by a verdict", func(f *forest, _ *Host) { f.processes[id(20)].Verdict = verdict.Unknown },
			"its verdict is unknown, not leaked"},
		{"no orphan", func(f *forest, _ *Host) { f.processes[id(20)].Orphan = false }, "it is not an orphan"},
		{"became a main process", func(f *forest, _ *Host) { f.processes[id(20)].MainPID = true },
			"protected: it is the main process of the active unit "},
		{"memory came back", func(_ *forest, h *Host) { h.MemoryPercent = 50 },
			"the expression host.memory_percent > 85 does not hold"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, host, now := leakedTree(), idleHost(), at(200*time.Second)
			host.MemoryPercent = 90
			e := mustEngine(t, Rule{Name: "rule", Match: Match{"when": "host.memory_percent > 85"}})
			d := e.Evaluate(f, host, now)[0]
			tt.change(f, host)
			if ok, why := e.Holds(f, host, &d, now); why != tt.why || ok != (why == "") {
				t.Errorf("got %v %q, want %q", ok, why, tt.why)
			}
		})
	}
}

// TestCycle: a view with a loop in its lineage ends all the same.
func TestCycle(t *testing.T) {
	f := newForest()
	f.add(10, 11, orphan(verdict.Leaked, 100*time.Second))
	f.add(11, 10, orphan(verdict.Leaked, 100*time.Second))
	e := mustEngine(t, Rule{Name: "rule", Match: Match{"spawned_by": "^never$"}}, Rule{Name: "two"})
	if got := e.Evaluate(f, idleHost(), at(200*time.Second)); len(got) != 1 {
		t.Errorf("got %+v, want one decision", got)
	}
}

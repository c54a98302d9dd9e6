// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestDecision(t *testing.T) {
	e := mustEngine(t, Rule{Name: "leaks", Mode: wire.ModeEnforce, Grace: 7 * time.Second})
	decisions := e.Evaluate(leakedTree(), idleHost(), at(200*time.Second))
	if len(decisions) != 1 {
		t.Fatalf("got %d decisions, want 1: %+v", len(decisions), decisions)
	}
	d := decisions[0]
	if d.Rule != "leaks" || d.Mode != wire.ModeEnforce || d.Action != ActionKill || d.Scope != wire.ScopeTree ||
		d.Grace != 7*time.Second || d.Root != id(20) || d.Verdict != verdict.Leaked || !d.Enforceable || !d.Enforces() {
		t.Errorf("got %+v", d)
	}
	if got, want := pids(d.Targets), []int32{20, 30, 40, 31}; !slices.Equal(got, want) {
		t.Errorf("targets: got %v, want %v", got, want)
	}
}

// TestNoDecision: what no rule may touch, though all its conditions hold.
func TestNoDecision(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Process)
		why    string
	}{
		{"kept", func(p *Process) { p.Keep = true }, "ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{"protected", func(p *Process) { p.MainPID, p.Unit = true, "a.service" },
			"protected: it is the main process of the active unit a.service"},
		{"not an orphan", func(p *Process) { p.Orphan = false },
			"it is not an orphan: who spawned it lives, or is not known to be dead"},
		{"dead", dead, "it is dead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := leakedTree()
			tt.change(f.processes[id(20)])
			e := mustEngine(t, Rule{Name: "rule", Verdict: Verdicts})
			now := at(200 * time.Second)
			if got := e.Evaluate(f, idleHost(), now); len(got) != 0 {
				t.Errorf("full pass: got %+v", got)
			}
			if got := e.EvaluateOrphans(f, idleHost(), []event.ID{id(20)}, now); len(got) != 0 {
				t.Errorf("one orphan: got %+v", got)
			}
			if got := e.Explain(f, idleHost(), id(20), now)[0]; got.Applies || got.Why != tt.why {
				t.Errorf("explain: got %+v, want %q", got, tt.why)
			}
		})
	}
	e := mustEngine(t, Rule{Name: "rule"})
	if got := e.Explain(leakedTree(), idleHost(), id(99), 0)[0]; got.Applies || got.Why != "no such process" {
		t.Errorf("forgotten process: got %+v", got)
	}
}

// TestLineageCarries: guessed lineage never kills, except where a one-shot pass was
// asked for it in so many words.
func TestLineageCarries(t *testing.T) {
	guessed := []string{"leaked", "unknown"}
	tests := []struct {
		name     string
		observed bool
		oneShot  bool
		rule     Rule
		carries  bool
	}{
		{"observed", true, false, Rule{}, true},
		{"not observed", false, false, Rule{}, false},
		{"not observed, rule names unknown and a user", false, false, Rule{Verdict: guessed, Match: Match{"user": []string{"app"}}}, false},
		{"one shot", false, true, Rule{}, false},
		{"one shot, unknown", false, true, Rule{Verdict: guessed}, false},
		{"one shot, user", false, true, Rule{Match: Match{"user": []string{"app"}}}, false},
		{"one shot, unknown and user", false, true, Rule{Verdict: guessed, Match: Match{"user": []string{"app"}}}, true},
		{"one shot, unknown and exe", false, true, Rule{Verdict: guessed, Match: Match{"exe": []string{"/usr/bin/python3*"}}}, true},
		{"one shot, unknown and cmdline", false, true, Rule{Verdict: guessed, Match: Match{"cmdline": "work"}}, true},
		{"one shot, unknown and age", false, true, Rule{Verdict: guessed, Match: Match{"older_than": time.Second}}, false},
		{"one shot, unknown and ancestor", false, true, Rule{Verdict: guessed, Match: Match{"spawned_by": "gunicorn"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := leakedTree()
			for _, p := range f.processes {
				p.Observed = tt.observed
			}
			tt.rule.Name, tt.rule.Mode = "rule", wire.ModeEnforce
			e := mustEngineOf(t, Options{Rules: []Rule{tt.rule}, OneShot: tt.oneShot})
			decisions := e.Evaluate(f, idleHost(), at(200*time.Second))
			if len(decisions) != 1 {
				t.Fatalf("got %d decisions, want 1 that is reported at least", len(decisions))
			}
			d := decisions[0]
			if d.Enforceable != tt.carries || d.Enforces() != tt.carries || (d.Blocker == "") != tt.carries {
				t.Errorf("carries: got %v, enforces %v, withheld %q, want %v", d.Enforceable, d.Enforces(), d.Blocker, tt.carries)
			}
			if want := 4; tt.carries && len(d.Targets) != want {
				t.Errorf("targets: got %v, want %d", pids(d.Targets), want)
			}
		})
	}
}

// TestOncePerTree: nested matches are one act, on the topmost of them.
func TestOncePerTree(t *testing.T) {
	// 20 is leaked; 30 below it was stranded by the same death, 40 below that too.
	stranded := func() *forest {
		f := leakedTree()
		for _, pid := range []int32{30, 31, 40} {
			orphan(verdict.Leaked, 100*time.Second)(f.processes[id(pid)])
		}
		return f
	}
	now := at(200 * time.Second)
	for _, scope := range wire.Scopes {
		e := mustEngine(t, Rule{Name: "rule", Scope: scope})
		f := stranded()
		if got := e.Evaluate(f, idleHost(), now); len(got) != 1 || got[0].Root != id(20) {
			t.Errorf("scope %s, full pass: got %+v, want one decision on 20", scope, got)
		}
		if got := e.Evaluate(f, idleHost(), now+1); len(got) != 0 {
			t.Errorf("scope %s, second pass: got %+v, want none", scope, got)
		}
		e = mustEngine(t, Rule{Name: "rule", Scope: scope})
		if got := e.EvaluateOrphans(f, idleHost(), []event.ID{id(40)}, now); len(got) != 1 || got[0].Root != id(20) {
			t.Errorf("scope %s, stranded one first: got %+v, want one decision on 20", scope, got)
		}
		for _, pid := range []int32{20, 30, 31, 40} {
			if got := e.EvaluateOrphans(f, idleHost(), []event.ID{id(pid)}, now); len(got) != 0 {
				t.Errorf("scope %s, then %d: got %+v, want none", scope, pid, got)
			}
		}
		// The kill's own doing: the root is dead, its children are orphans of it.
		f.processes[id(20)].Dead = true
		orphan(verdict.Leaked, 201*time.Second)(f.processes[id(30)])
		if got := e.Evaluate(f, idleHost(), now+uint64(time.Second)*2); len(got) != 0 {
			t.Errorf("scope %s, after the root's death: got %+v, want none", scope, got)
		}
	}

	t.Run("a rule that matches only below", func(t *testing.T) {
		f := stranded()
		f.processes[id(31)].Cmdline, f.processes[id(40)].Cmdline = "node x", "node y"
		e := mustEngine(t, Rule{Name: "rule", Match: Match{"cmdline": "^node"}})
		got := e.Evaluate(f, idleHost(), now)
		if len(got) != 2 || got[0].Root != id(31) || got[1].Root != id(40) {
			t.Errorf("got %+v, want decisions on 31 and 40", got)
		}
	})
	t.Run("below what is left out begins another tree", func(t *testing.T) {
		f := stranded()
		orphan(verdict.Deliberate, 50*time.Second)(f.processes[id(30)])
		got := mustEngine(t, Rule{Name: "rule"}).Evaluate(f, idleHost(), now)
		if len(got) != 2 || got[0].Root != id(20) || got[1].Root != id(40) {
			t.Fatalf("got %+v, want decisions on 20 and 40", got)
		}
		if want := []int32{20, 31}; !slices.Equal(pids(got[0].Targets), want) {
			t.Errorf("targets: got %v, want %v", pids(got[0].Targets), want)
		}
	})
	t.Run("another rule acts for itself", func(t *testing.T) {
		e := mustEngine(t, Rule{Name: "one"}, Rule{Name: "two", Action: ActionNotify})
		if got := e.Evaluate(stranded(), idleHost(), now); len(got) != 2 {
			t.Errorf("got %+v, want one decision of each rule", got)
		}
	})
}

// TestStateIsBounded: nothing is kept of what the view has forgotten.
func TestStateIsBounded(t *testing.T) {
	f := newForest()
	e := mustEngine(t, Rule{Name: "one"}, Rule{Name: "two", For: time.Hour})
	f.add(10, 0, dead)
	for pid := int32(11); pid < 100; pid++ {
		f.add(pid, 10, orphan(verdict.Leaked, 100*time.Second))
	}
	e.Evaluate(f, idleHost(), at(200*time.Second))
	if got, want := len(e.state), 2*89; got != want {
		t.Fatalf("got %d states, want %d", got, want)
	}
	f.processes = map[event.ID]*Process{}
	e.Evaluate(f, idleHost(), at(201*time.Second))
	if len(e.state) != 0 || len(e.deadlines) != 0 {
		t.Errorf("got %d states and %d deadlines, want none", len(e.state), len(e.deadlines))
	}
}

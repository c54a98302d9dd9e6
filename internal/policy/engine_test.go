// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// TestConditions holds each condition alone against one leaked tree, 200 s after boot.
func TestConditions(t *testing.T) {
	tests := []struct {
		name   string
		rule   Rule
		change func(*Process)
		host   func(*Host)
		acts   bool
		reason string // the last reason, or why it does not apply
	}{
		{name: "no condition", acts: true, reason: "its verdict is leaked"},
		{name: "deliberate", change: func(p *Process) { p.Verdict = verdict.Deliberate },
			reason: "its verdict is deliberate, not leaked"},
		{name: "unknown", change: func(p *Process) { p.Verdict = verdict.Unknown },
			reason: "its verdict is unknown, not leaked"},
		{name: "unknown listed", rule: Rule{Verdict: []string{"leaked", "unknown"}},
			change: func(p *Process) { p.Verdict = verdict.Unknown }, acts: true, reason: "its verdict is unknown"},
		{name: "notify takes any verdict", rule: Rule{Action: ActionNotify},
			change: func(p *Process) { p.Verdict = verdict.Deliberate }, acts: true, reason: "its verdict is deliberate"},
		{name: "user", rule: Rule{User: []string{"web", "app"}}, acts: true, reason: "its user is app"},
		{name: "user by number", rule: Rule{User: []string{"1000"}}, acts: true, reason: "its user is app"},
		{name: "other user", rule: Rule{User: []string{"web"}}, reason: "its user is app, not web"},
		{name: "user without a name", rule: Rule{User: []string{"web"}}, change: func(p *Process) { p.User = "" },
			reason: "its user is 1000, not web"},
		{name: "unit glob", rule: Rule{Unit: []string{"web*.service"}}, change: func(p *Process) { p.Unit = "web-1.service" },
			acts: true, reason: "its unit is web-1.service"},
		{name: "other unit", rule: Rule{Unit: []string{"web*.service"}}, change: func(p *Process) { p.Unit = "db.service" },
			reason: "its unit is db.service, which does not match web*.service"},
		{name: "no unit", rule: Rule{Unit: []string{"web*.service"}}, reason: "its unit is not known, or it has none"},
		{name: "exe glob", rule: Rule{Exe: []string{"/usr/bin/python3*"}}, acts: true, reason: "its exe is /usr/bin/python3.11"},
		{name: "exe glob stays within its directory", rule: Rule{Exe: []string{"/usr/*"}},
			reason: "its exe is /usr/bin/python3.11, which does not match /usr/*"},
		{name: "exe is the whole path", rule: Rule{Exe: []string{"/usr/bin/python3"}},
			reason: "its exe is /usr/bin/python3.11, which does not match /usr/bin/python3"},
		{name: "cmdline", rule: Rule{Cmdline: `-c w\w+k$`}, acts: true, reason: `its command line matches -c w\w+k$`},
		{name: "other cmdline", rule: Rule{Cmdline: "celery"}, reason: "its command line does not match celery"},
		{name: "cmdline not known", rule: Rule{Cmdline: "celery"}, change: func(p *Process) { p.Cmdline = "" },
			reason: "its command line is not known"},
		{name: "spawned by a dead ancestor", rule: Rule{SpawnedBy: "gunicorn"}, acts: true,
			reason: "the command line of its ancestor pid 10 (gunicorn) matches gunicorn"},
		{name: "spawned by someone else", rule: Rule{SpawnedBy: "celery"},
			reason: "no known ancestor's command line matches celery"},
		{name: "orphaned for long enough", rule: Rule{OrphanedFor: 100 * time.Second}, acts: true,
			reason: "it has been an orphan for 1m40s, at least 1m40s"},
		{name: "not an orphan for long enough", rule: Rule{OrphanedFor: 101 * time.Second},
			reason: "it will apply with time: it has been an orphan for 1m40s, less than 1m41s"},
		{name: "orphan since nobody knows", rule: Rule{OrphanedFor: time.Second}, change: func(p *Process) { p.Since = 0 },
			reason: "since when it is an orphan is not known"},
		{name: "older", rule: Rule{OlderThan: 180 * time.Second}, acts: true, reason: "its age is 3m, at least 3m"},
		{name: "younger", rule: Rule{OlderThan: time.Hour}, reason: "it will apply with time: its age is 3m, less than 1h"},
		{name: "memory of the tree", rule: Rule{MemoryAbove: 39 << 20}, acts: true,
			reason: "its tree holds 40.0 MiB, more than 39.0 MiB"},
		{name: "swap counts", rule: Rule{MemoryAbove: 1 << 30}, change: func(p *Process) { p.Swap = 1 << 30 }, acts: true,
			reason: "its tree holds 1.04 GiB, more than 1.00 GiB"},
		{name: "little memory", rule: Rule{MemoryAbove: 40 << 20}, reason: "its tree holds 40.0 MiB, not more than 40.0 MiB"},
		{name: "memory not known", rule: Rule{MemoryAbove: 1}, change: func(p *Process) { p.MemoryKnown = false },
			reason: "the memory of its tree is not sampled"},
		{name: "host expression", rule: Rule{When: "host.memory_percent > 85"}, host: func(h *Host) { h.MemoryPercent = 90 },
			acts: true, reason: "the expression host.memory_percent > 85 holds"},
		{name: "host expression does not hold", rule: Rule{When: "host.memory_percent > 85"},
			reason: "the expression host.memory_percent > 85 does not hold"},
		{name: "host not known", rule: Rule{When: "host.memory_percent < 85"}, host: func(h *Host) { *h = UnknownHost() },
			reason: "the expression host.memory_percent < 85 cannot be told: host.memory_percent is not known"},
		{name: "a negation of the unknown", rule: Rule{When: "not (host.load1 > 3)"}, host: func(h *Host) { *h = UnknownHost() },
			reason: "the expression not (host.load1 > 3) cannot be told: host.load1 is not known"},
		{name: "unused figures may be unknown", rule: Rule{When: "process.uid == 1000"}, host: func(h *Host) { *h = UnknownHost() },
			acts: true, reason: "the expression process.uid == 1000 holds"},
		{name: "process expression", rule: Rule{When: `process.orphan_seconds >= 100 and process.exe startsWith "/usr/" and process.tree_bytes > 3e7`},
			acts: true, reason: `the expression process.orphan_seconds >= 100 and process.exe startsWith "/usr/" and process.tree_bytes > 3e7 holds`},
		{name: "expression that fails at run time", rule: Rule{When: `process.pid % (process.uid - 1000) == 1`},
			reason: `the expression process.pid % (process.uid - 1000) == 1 cannot be told: runtime error: integer divide by zero`},
		{name: "the first that fails is told", rule: Rule{User: []string{"web"}, MemoryAbove: 1 << 40},
			reason: "its user is app, not web"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, host := leakedTree(), idleHost()
			if tt.change != nil {
				tt.change(f.processes[id(20)])
			}
			if tt.host != nil {
				tt.host(host)
			}
			tt.rule.Name = "rule"
			e, now := mustEngine(t, tt.rule), at(200*time.Second)
			explained := e.Explain(f, host, id(20), now)[0]
			decisions := e.Evaluate(f, host, now)
			if got := len(decisions) == 1; got != tt.acts {
				t.Fatalf("acts: got %v (%+v), want %v", got, explained, tt.acts)
			}
			why := explained.Why
			if tt.acts {
				why = decisions[0].Reasons[len(decisions[0].Reasons)-1]
				if explained.ActsAt != now || !strings.Contains(explained.Why, why) {
					t.Errorf("explain says %+v, want it to act now because %q", explained, why)
				}
			}
			if why != tt.reason {
				t.Errorf("reason: got %q, want %q", why, tt.reason)
			}
		})
	}
}

func TestDecision(t *testing.T) {
	e := mustEngine(t, Rule{Name: "leaks", Mode: ModeEnforce, Grace: 7 * time.Second})
	decisions := e.Evaluate(leakedTree(), idleHost(), at(200*time.Second))
	if len(decisions) != 1 {
		t.Fatalf("got %d decisions, want 1: %+v", len(decisions), decisions)
	}
	d := decisions[0]
	if d.Rule != "leaks" || d.Mode != ModeEnforce || d.Action != ActionKill || d.Scope != ScopeTree ||
		d.Grace != 7*time.Second || d.Root != id(20) || d.Verdict != verdict.Leaked || !d.Carries || !d.Enforces() {
		t.Errorf("got %+v", d)
	}
	if got, want := pids(d.Targets), []int32{20, 30, 40, 31}; !slices.Equal(got, want) {
		t.Errorf("targets: got %v, want %v", got, want)
	}
}

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
		{name: "process", rule: Rule{Scope: ScopeProcess}, want: []int32{20}},
		{name: "notify", rule: Rule{Action: ActionNotify}},
		{name: "kept", member: keep, want: []int32{20, 31}, spared: "ABOT_TRACE_KEEP=1 in its environment says to keep it"},
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
			if got := e.EvaluateOrphan(f, idleHost(), id(20), now); len(got) != 0 {
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

// TestExplain: what an operator reads about one process.
func TestExplain(t *testing.T) {
	tests := []struct {
		name    string
		pid     int32
		rule    Rule
		applies bool
		why     string
	}{
		{"acts now", 20, Rule{Mode: ModeEnforce}, true, "it kills (mode enforce, scope tree): its verdict is leaked"},
		{"observes", 20, Rule{}, true, "it would kill (mode observe, scope tree): its verdict is leaked"},
		{"notifies", 20, Rule{Action: ActionNotify}, true, "it notifies (mode observe, scope tree): its verdict is leaked"},
		{"with time", 20, Rule{OrphanedFor: time.Hour}, true,
			"it will apply with time: it has been an orphan for 1m40s, less than 1h"},
		{"with time, but not this user", 20, Rule{OrphanedFor: time.Hour, User: []string{"web"}}, false,
			"its user is app, not web"},
		{"a member of the tree", 40, Rule{}, true,
			"it belongs to the tree of the orphan pid 20 (worker): it would kill (mode observe, scope tree): its verdict is leaked"},
		{"a member, scope process", 40, Rule{Scope: ScopeProcess}, false,
			"it is not an orphan: who spawned it lives, or is not known to be dead"},
		{"a member of a tree that does not match", 40, Rule{User: []string{"web"}}, false,
			"it is not an orphan: who spawned it lives, or is not known to be dead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.Name = "rule"
			e := mustEngine(t, tt.rule)
			got := e.Explain(leakedTree(), idleHost(), id(tt.pid), at(200*time.Second))[0]
			if got.Name != "rule" || got.Applies != tt.applies || got.Why != tt.why {
				t.Errorf("got %+v, want applies %v, %q", got, tt.applies, tt.why)
			}
			if (got.ActsAt != 0) != tt.applies {
				t.Errorf("acts at %d although applies is %v", got.ActsAt, got.Applies)
			}
			if len(e.state) != 0 {
				t.Errorf("explaining left %d states", len(e.state))
			}
		})
	}
	e := mustEngine(t, Rule{Name: "rule"})
	e.Evaluate(leakedTree(), idleHost(), at(200*time.Second))
	want := "it has acted on this tree; it would kill (mode observe, scope tree): its verdict is leaked"
	if got := e.Explain(leakedTree(), idleHost(), id(20), at(201*time.Second))[0]; got.Why != want || got.ActsAt != 0 {
		t.Errorf("afterwards: got %+v, want %q", got, want)
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
		{"not observed, rule names unknown and a user", false, false, Rule{Verdict: guessed, User: []string{"app"}}, false},
		{"one shot", false, true, Rule{}, false},
		{"one shot, unknown", false, true, Rule{Verdict: guessed}, false},
		{"one shot, user", false, true, Rule{User: []string{"app"}}, false},
		{"one shot, unknown and user", false, true, Rule{Verdict: guessed, User: []string{"app"}}, true},
		{"one shot, unknown and exe", false, true, Rule{Verdict: guessed, Exe: []string{"/usr/bin/python3*"}}, true},
		{"one shot, unknown and cmdline", false, true, Rule{Verdict: guessed, Cmdline: "work"}, true},
		{"one shot, unknown and age", false, true, Rule{Verdict: guessed, OlderThan: time.Second}, false},
		{"one shot, unknown and ancestor", false, true, Rule{Verdict: guessed, SpawnedBy: "gunicorn"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := leakedTree()
			for _, p := range f.processes {
				p.Observed = tt.observed
			}
			tt.rule.Name, tt.rule.Mode = "rule", ModeEnforce
			e := mustEngineOf(t, Options{Rules: []Rule{tt.rule}, OneShot: tt.oneShot})
			decisions := e.Evaluate(f, idleHost(), at(200*time.Second))
			if len(decisions) != 1 {
				t.Fatalf("got %d decisions, want 1 that is reported at least", len(decisions))
			}
			d := decisions[0]
			if d.Carries != tt.carries || d.Enforces() != tt.carries || (d.Withheld == "") != tt.carries {
				t.Errorf("carries: got %v, enforces %v, withheld %q, want %v", d.Carries, d.Enforces(), d.Withheld, tt.carries)
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
	for _, scope := range Scopes {
		e := mustEngine(t, Rule{Name: "rule", Scope: scope})
		f := stranded()
		if got := e.Evaluate(f, idleHost(), now); len(got) != 1 || got[0].Root != id(20) {
			t.Errorf("scope %s, full pass: got %+v, want one decision on 20", scope, got)
		}
		if got := e.Evaluate(f, idleHost(), now+1); len(got) != 0 {
			t.Errorf("scope %s, second pass: got %+v, want none", scope, got)
		}
		e = mustEngine(t, Rule{Name: "rule", Scope: scope})
		if got := e.EvaluateOrphan(f, idleHost(), id(40), now); len(got) != 1 || got[0].Root != id(20) {
			t.Errorf("scope %s, stranded one first: got %+v, want one decision on 20", scope, got)
		}
		for _, pid := range []int32{20, 30, 31, 40} {
			if got := e.EvaluateOrphan(f, idleHost(), id(pid), now); len(got) != 0 {
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
		e := mustEngine(t, Rule{Name: "rule", Cmdline: "^node"})
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

// TestAgeByTestClock is the rule of 24 hours, by deadlines alone: no pass in between.
func TestAgeByTestClock(t *testing.T) {
	f, host := leakedTree(), idleHost()
	e := mustEngine(t, Rule{Name: "stale", OrphanedFor: 24 * time.Hour})
	since := at(100 * time.Second)
	if got := e.EvaluateOrphan(f, host, id(20), since); len(got) != 0 {
		t.Fatalf("at the orphaning: got %+v", got)
	}
	deadline, ok := e.NextDeadline()
	if want := since + at(24*time.Hour); !ok || deadline != want {
		t.Fatalf("deadline: got %d %v, want %d", deadline, ok, want)
	}
	if got := e.Due(f, host, deadline-1); len(got) != 0 {
		t.Fatalf("one ns early: got %+v", got)
	}
	if got := e.Explain(f, host, id(20), deadline-1)[0]; !got.Applies || got.ActsAt != deadline {
		t.Fatalf("explain: got %+v, want it to act at %d", got, deadline)
	}
	got := e.Due(f, host, deadline)
	if len(got) != 1 || got[0].Root != id(20) || len(got[0].Targets) != 4 {
		t.Fatalf("at the deadline: got %+v", got)
	}
	if deadline, ok := e.NextDeadline(); ok {
		t.Errorf("a deadline is left: %d", deadline)
	}
}

// TestFor: all of it must have held for that long, without a break.
func TestFor(t *testing.T) {
	f, host := leakedTree(), idleHost()
	e := mustEngine(t, Rule{Name: "pressure", When: "host.memory_percent > 85", For: 30 * time.Second})
	pass := func(second time.Duration, percent float64) []Decision {
		host.MemoryPercent = percent
		return e.Evaluate(f, host, at(second*time.Second))
	}
	steps := []struct {
		second  time.Duration
		percent float64
		acts    bool
	}{{200, 90, false}, {229, 90, false}, {229, 80, false}, {230, 90, false}, {259, 90, false}, {260, 90, true}, {290, 90, false}}
	for _, s := range steps {
		if got := pass(s.second, s.percent); (len(got) == 1) != s.acts {
			t.Errorf("at %ds with %g%%: got %d decisions, want acts %v", s.second, s.percent, len(got), s.acts)
		}
	}

	e = mustEngine(t, Rule{Name: "pressure", When: "host.memory_percent > 85", For: 30 * time.Second})
	pass(300, 90)
	deadline, ok := e.NextDeadline()
	if want := at(330 * time.Second); !ok || deadline != want {
		t.Fatalf("deadline: got %d %v, want %d", deadline, ok, want)
	}
	if got := e.Due(f, host, deadline); len(got) != 1 || !slices.Contains(got[0].Reasons, "all of this has held for 30s") {
		t.Errorf("at the deadline: got %+v", got)
	}
}

// TestDeadlineNeedsTheRest: an age that alone is missing arms a timer, and one that
// something else makes useless does not.
func TestDeadlineNeedsTheRest(t *testing.T) {
	tests := []struct {
		name string
		rule Rule
		want uint64 // 0 is none
	}{
		{"the later of two ages", Rule{OrphanedFor: time.Hour, OlderThan: 2 * time.Hour}, at(20*time.Second + 2*time.Hour)},
		{"another user", Rule{OrphanedFor: time.Hour, User: []string{"web"}}, 0},
		{"too little memory", Rule{OrphanedFor: time.Hour, MemoryAbove: 1 << 40}, 0},
		{"age and wait", Rule{OrphanedFor: time.Hour, For: time.Minute}, at(100*time.Second + time.Hour)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.Name = "rule"
			e := mustEngine(t, tt.rule)
			e.Evaluate(leakedTree(), idleHost(), at(200*time.Second))
			if got, _ := e.NextDeadline(); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestDefer(t *testing.T) {
	f, host, now := leakedTree(), idleHost(), at(200*time.Second)
	e := mustEngine(t, Rule{Name: "rule"})
	d := e.Evaluate(f, host, now)[0]
	retry := now + at(time.Minute)
	e.Defer(&d, retry)
	if got := e.Evaluate(f, host, retry-1); len(got) != 0 {
		t.Fatalf("before the retry: got %+v", got)
	}
	if deadline, ok := e.NextDeadline(); !ok || deadline != retry {
		t.Fatalf("deadline: got %d %v, want %d", deadline, ok, retry)
	}
	got := e.Due(f, host, retry)
	if len(got) != 1 {
		t.Fatalf("at the retry: got %+v", got)
	}
	e.Defer(&got[0], 0)
	if got := e.Evaluate(f, host, retry); len(got) != 1 {
		t.Errorf("deferred without an instant: got %+v, want it at the next pass", got)
	}
	e.Forget(id(20))
	e.Defer(&d, retry) // nothing is left to defer
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

// TestSpares is the look before every signal.
func TestSpares(t *testing.T) {
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
			if got := e.Spares(f, &d, id(tt.pid)); got != tt.why {
				t.Errorf("got %q, want %q", got, tt.why)
			}
			if got := e.Spares(f, &d, id(99)); got != "it is not known any more" {
				t.Errorf("forgotten: got %q", got)
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
			e := mustEngine(t, Rule{Name: "rule", When: "host.memory_percent > 85"})
			d := e.Evaluate(f, host, now)[0]
			tt.change(f, host)
			if ok, why := e.Holds(f, host, &d, now); why != tt.why || ok != (why == "") {
				t.Errorf("got %v %q, want %q", ok, why, tt.why)
			}
		})
	}
}

// TestInherit: a reload neither repeats an act nor restarts a wait of a rule that
// stayed the same.
func TestInherit(t *testing.T) {
	f, host := leakedTree(), idleHost()
	host.MemoryPercent = 90
	acted := Rule{Name: "acted"}
	waits := Rule{Name: "waits", When: "host.memory_percent > 85", For: time.Minute}
	changed := Rule{Name: "changed"}
	old := mustEngine(t, acted, waits, changed)
	if got := old.Evaluate(f, host, at(200*time.Second)); len(got) != 2 {
		t.Fatalf("got %d decisions, want 2", len(got))
	}
	changed.Mode = ModeEnforce
	e := mustEngine(t, changed, waits, acted)
	e.Inherit(old)
	got := e.Evaluate(f, host, at(200*time.Second))
	if len(got) != 1 || got[0].Rule != "changed" {
		t.Errorf("after the reload: got %+v, want the changed rule only", got)
	}
	got = e.Evaluate(f, host, at(260*time.Second))
	if len(got) != 1 || got[0].Rule != "waits" {
		t.Errorf("a minute after the start: got %+v, want the waiting rule", got)
	}
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

// TestCycle: a view with a loop in its lineage ends all the same.
func TestCycle(t *testing.T) {
	f := newForest()
	f.add(10, 11, orphan(verdict.Leaked, 100*time.Second))
	f.add(11, 10, orphan(verdict.Leaked, 100*time.Second))
	e := mustEngine(t, Rule{Name: "rule", SpawnedBy: "^never$"}, Rule{Name: "two"})
	if got := e.Evaluate(f, idleHost(), at(200*time.Second)); len(got) != 1 {
		t.Errorf("got %+v, want one decision", got)
	}
}

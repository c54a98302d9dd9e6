// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestAgeByTestClock is the rule of 24 hours, by deadlines alone: no pass in between.
func TestAgeByTestClock(t *testing.T) {
	f, host := leakedTree(), idleHost()
	e := mustEngine(t, Rule{Name: "stale", Match: Match{"orphaned_for": 24 * time.Hour}})
	since := at(100 * time.Second)
	if got := e.EvaluateOrphans(f, host, []event.ID{id(20)}, since); len(got) != 0 {
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
	e := mustEngine(t, Rule{Name: "pressure", Match: Match{"when": "host.memory_percent > 85"}, For: 30 * time.Second})
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

	e = mustEngine(t, Rule{Name: "pressure", Match: Match{"when": "host.memory_percent > 85"}, For: 30 * time.Second})
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
		{"the later of two ages", Rule{Match: Match{"orphaned_for": time.Hour, "older_than": 2 * time.Hour}}, at(20*time.Second + 2*time.Hour)},
		{"another user", Rule{Match: Match{"orphaned_for": time.Hour, "user": []string{"web"}}}, 0},
		{"too little memory", Rule{Match: Match{"orphaned_for": time.Hour, "memory_above": uint64(1 << 40)}}, 0},
		{"age and wait", Rule{Match: Match{"orphaned_for": time.Hour}, For: time.Minute}, at(100*time.Second + time.Hour)},
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

// TestInherit: a reload neither repeats an act nor restarts a wait of a rule that
// stayed the same.
func TestInherit(t *testing.T) {
	f, host := leakedTree(), idleHost()
	host.MemoryPercent = 90
	acted := Rule{Name: "acted"}
	waits := Rule{Name: "waits", Match: Match{"when": "host.memory_percent > 85"}, For: time.Minute}
	changed := Rule{Name: "changed"}
	old := mustEngine(t, acted, waits, changed)
	if got := old.Evaluate(f, host, at(200*time.Second)); len(got) != 2 {
		t.Fatalf("got %d decisions, want 2", len(got))
	}
	changed.Mode = wire.ModeEnforce
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

// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestExplain: what an operator reads about one process.
func TestExplain(t *testing.T) {
	tests := []struct {
		name    string
		pid     int32
		rule    Rule
		applies bool
		why     string
	}{
		{"acts now", 20, Rule{Mode: wire.ModeEnforce}, true, "it kills (mode enforce, scope tree): its verdict is leaked"},
		{"observes", 20, Rule{}, true, "it would kill (mode observe, scope tree): its verdict is leaked"},
		{"notifies", 20, Rule{Action: ActionNotify}, true, "it notifies (mode observe, scope tree): its verdict is leaked"},
		{"with time", 20, Rule{Match: Match{"orphaned_for": time.Hour}}, true,
			"it will apply with time: it has been an orphan for 1m40s, less than 1h"},
		{"with time, but not this user", 20, Rule{Match: Match{"orphaned_for": time.Hour, "user": []string{"web"}}}, false,
			"its user is app, not web"},
		{"a member of the tree", 40, Rule{}, true,
			"it belongs to the tree of the orphan pid 20 (worker): it would kill (mode observe, scope tree): its verdict is leaked"},
		{"a member, scope process", 40, Rule{Scope: wire.ScopeProcess}, false,
			"it is not an orphan: who spawned it lives, or is not known to be dead"},
		{"a member of a tree that does not match", 40, Rule{Match: Match{"user": []string{"web"}}}, false,
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
}

// TestExplainWhatIsDone: a rule that only told of a tree is not said to have acted on it.
func TestExplainWhatIsDone(t *testing.T) {
	tests := []struct {
		name string
		rule Rule
		why  string
	}{
		{"observes", Rule{}, "it has told of this tree; it would kill (mode observe, scope tree): its verdict is leaked"},
		{"notifies", Rule{Action: ActionNotify}, "it has told of this tree; it notifies (mode observe, scope tree): its verdict is leaked"},
		{"ends", Rule{Mode: wire.ModeEnforce}, "it has acted on this tree; it kills (mode enforce, scope tree): its verdict is leaked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.rule.Name = "rule"
			e := mustEngine(t, tt.rule)
			e.Evaluate(leakedTree(), idleHost(), at(200*time.Second))
			if got := e.Explain(leakedTree(), idleHost(), id(20), at(201*time.Second))[0]; got.Why != tt.why || got.ActsAt != 0 {
				t.Errorf("got %+v, want %q", got, tt.why)
			}
		})
	}
}

// TestExplainInferred: nor is one that is armed, and was kept from it by what is not known.
func TestExplainInferred(t *testing.T) {
	e := mustEngine(t, Rule{Name: "rule", Mode: wire.ModeEnforce})
	view := leakedTree()
	root := view.processes[id(20)]
	root.Observed = false
	e.Evaluate(view, idleHost(), at(200*time.Second))
	want := "it has told of this tree; it would kill (mode enforce, scope tree): its verdict is leaked; reported only, because who spawned it was not observed"
	if got := e.Explain(view, idleHost(), id(20), at(201*time.Second))[0]; got.Why != want {
		t.Errorf("got %q, want %q", got.Why, want)
	}
}

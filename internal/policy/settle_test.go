// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// TestUnknownSettles wants a kill to wait until an unknown verdict will not change any
// more, and neither a leaked one nor a notice to wait.
func TestUnknownSettles(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rule    Rule
		verdict string
		waits   bool
	}{
		{"unknown, to be killed", Rule{Verdict: Verdicts}, verdict.Unknown, true},
		{"unknown, to be told", Rule{Verdict: Verdicts, Action: ActionNotify}, verdict.Unknown, false},
		{"leaked, by a rule that takes both", Rule{Verdict: Verdicts}, verdict.Leaked, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGrove(4, 1)
			p := &g.processes[g.orphans[0].PID]
			p.Verdict = tt.verdict
			tt.rule.Name = "rule"
			e := mustEngine(t, tt.rule)
			settled := p.Since + uint64(verdict.Settles)
			at := func(now uint64) int { return len(e.EvaluateOrphans(g, idleHost(), []event.ID{p.ID}, now)) }
			if !tt.waits {
				if n := at(p.Since); n != 1 {
					t.Errorf("%d decisions at once, want 1", n)
				}
				return
			}
			if n := at(settled - 1); n != 0 {
				t.Errorf("%d decisions before the verdict has settled", n)
			}
			if next, ok := e.NextDeadline(); !ok || next != settled {
				t.Errorf("next look at %d, want %d", next, settled)
			}
			why := e.Explain(g, idleHost(), p.ID, p.Since)[0]
			if !why.Applies || why.ActsAt != settled || !strings.Contains(why.Why, "may change until") {
				t.Errorf("explained as %+v", why)
			}
			if n := len(e.Due(g, idleHost(), settled)); n != 1 {
				t.Errorf("%d decisions then, want 1", n)
			}
		})
	}
}

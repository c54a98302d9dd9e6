// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"
	"time"

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

// TestHeldWhileRead wants what a rule waits for to go on while what the process holds is read
// anew, and to begin again when that is something else.
func TestHeldWhileRead(t *testing.T) {
	g := newGrove(4, 1)
	p := &g.processes[g.orphans[0].PID]
	asked := 0
	p.AskHeld = func(event.ID) { asked++ }
	e := mustEngine(t, Rule{Name: "rule", For: time.Minute, Match: Match{"listens": []string{"8000"}}})
	began := p.Since + uint64(verdict.Settles)
	look := func(at time.Duration, held *Held) int {
		p.Held = held
		return len(e.EvaluateOrphans(g, idleHost(), []event.ID{p.ID}, began+uint64(at)))
	}
	read := func(at time.Duration, ports ...uint16) *Held { return &Held{At: began + uint64(at), Ports: ports} }
	if n := look(0, nil); n != 0 || asked == 0 {
		t.Fatalf("%d decisions, %d questions", n, asked)
	}
	first := read(0, 8000)
	look(time.Second, first)
	asked = 0
	if n := look(40*time.Second, first); n != 0 || asked == 0 {
		t.Errorf("what was read 40s ago: %d decisions, %d questions", n, asked)
	}
	if n := look(60*time.Second, read(59*time.Second, 8000)); n != 0 {
		t.Error("it acts before its time")
	}
	if n := look(62*time.Second, read(61*time.Second, 8000)); n != 1 {
		t.Errorf("%d decisions after its time, want 1", n)
	}

	e = mustEngine(t, Rule{Name: "rule", For: time.Minute, Match: Match{"listens": []string{"8000"}}})
	look(time.Second, first)
	look(20*time.Second, read(20*time.Second, 9000))
	if n := look(62*time.Second, read(61*time.Second, 8000)); n != 0 {
		t.Error("it counts time in which the port was given back")
	}
}

// TestHeldIsAskedLast wants nobody read of whom another condition does not hold yet.
func TestHeldIsAskedLast(t *testing.T) {
	g := newGrove(4, 1)
	p := &g.processes[g.orphans[0].PID]
	p.AskHeld = func(event.ID) { t.Error("it is asked for") }
	e := mustEngine(t, Rule{Name: "rule", Match: Match{"listens": []string{"8000"}, "orphaned_for": time.Hour}})
	if n := len(e.EvaluateOrphans(g, idleHost(), []event.ID{p.ID}, p.Since+uint64(time.Minute))); n != 0 {
		t.Errorf("%d decisions", n)
	}
	if next, ok := e.NextDeadline(); !ok || next != p.Since+uint64(time.Hour) {
		t.Errorf("next look at %d", next)
	}
}

func TestPortsRefused(t *testing.T) {
	for _, text := range []string{"", "0", "65536", "http", "9-8", "8-", "-8", "1-2-3"} {
		if _, err := parsePorts([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// toldUnits is a service manager that has told of units.
type toldUnits map[string]evidence.UnitState

func (toldUnits) Unit(context.Context, int32) (evidence.UnitState, error) {
	return evidence.UnitState{}, nil
}
func (u toldUnits) Told(unit string) (evidence.UnitState, bool) { s, ok := u[unit]; return s, ok }
func (toldUnits) Watch(context.Context, func(string))           {}

// TestSuspendedByAFailedUnit: a rule whose kill has a unit fail ends no more leaks of the
// fingerprint, and says so.
func TestSuspendedByAFailedUnit(t *testing.T) {
	const fingerprint, rule, unit = "F0123456789ab", "workers", "web.service"
	for name, test := range map[string]struct {
		before, after string // states of the unit, empty where the manager has not told of it
		changed       string // the unit whose state is another
		outcome       string
		ended         time.Duration // how long ago
		respawn       string
		want          bool
	}{
		"it failed then":                {"active", "failed", unit, wire.OutcomeDied, 0, "1m", true},
		"it failed a second later":      {"active", "failed", unit, wire.OutcomeDied, time.Second, "30s", true},
		"it failed much later":          {"active", "failed", unit, wire.OutcomeDied, 20 * time.Second, "10s", false},
		"it had failed before":          {"failed", "failed", unit, wire.OutcomeDied, 0, "1m", false},
		"it was not known":              {"", "failed", unit, wire.OutcomeDied, 0, "1m", false},
		"it goes on":                    {"active", "active", unit, wire.OutcomeDied, 0, "1m", false},
		"it is stopped":                 {"active", "inactive", unit, wire.OutcomeDied, 0, "1m", false},
		"another one failed":            {"active", "failed", "db.service", wire.OutcomeDied, 0, "1m", false},
		"the kill has ended nobody":     {"active", "failed", unit, wire.OutcomeRefused, 0, "1m", false},
		"rules are not to be suspended": {"active", "failed", unit, wire.OutcomeDied, 0, "0s", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "budget: {respawn: "+test.respawn+"}\nrules: [{name: workers, mode: enforce, orphaned_for: 1h, match: {verdict: [leaked]}}]\n")
			units := toldUnits{}
			set := func(name, state string) {
				if state != "" {
					units[name] = evidence.UnitState{State: state}
				}
			}
			book := trust.New()
			w.on(func(*tracker.Tree) {
				w.opt.Owners, w.opt.Trust, w.opt.TrustChanged = units, book, func() {}
				set(unit, test.before)
				set("db.service", "failed")
				a := &killInFlight{fingerprint: fingerprint, root: &wire.Process{Unit: unit}, decision: &policy.Decision{Rule: rule}}
				w.noteKill(a, rule)
				w.noteKilled(a, &wire.Kill{Rule: rule, Mode: wire.ModeEnforce, Processes: []wire.Killed{{Outcome: test.outcome}}})
				if kill, ok := w.recentKills[killKey{fingerprint, rule}]; ok {
					kill.until -= uint64(test.ended)
					w.recentKills[killKey{fingerprint, rule}] = kill
				}
				set(unit, test.after)
				w.UnitChanged(test.changed)
				w.UnitChanged(test.changed) // once is told once
				if got := book.Suspended(fingerprint, rule); got != test.want {
					t.Errorf("suspended: %v", got)
				}
				if why := book.Exempt(fingerprint, rule); (why != "") != test.want {
					t.Errorf("exempt: %q", why)
				}
				if book.Suspended(fingerprint, "other") || book.Suspended("Fba9876543210", rule) {
					t.Error("another rule, or another fingerprint, is suspended")
				}
			})
			if !test.want {
				return
			}
			said := w.next("decision", func(e *wire.Event) bool { return e.Trust != nil }).Trust
			if said.Action != wire.TrustSuspend || said.Rule != rule || said.Fingerprint != fingerprint || said.By != nil ||
				said.Reason != "unit web.service failed after it had ended what was in it" {
				t.Errorf("%+v", said)
			}
			alert := w.next("alert", func(e *wire.Event) bool { return e.Alert != nil }).Alert
			if alert.Name != "suspended:"+rule || alert.State != wire.AlertWarning {
				t.Errorf("%+v", alert)
			}
			w.on(func(*tracker.Tree) {
				if len(w.recentKills) != 0 {
					t.Error("the kill is not forgotten")
				}
			})
		})
	}
}

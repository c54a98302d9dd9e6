// SPDX-License-Identifier: Apache-2.0

// Package promtool lets Prometheus itself judge what deploy/ holds for it: the alert
// rules with tests of their own, the dashboard's expressions, and the exposition.
package promtool

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/metrics"
	"github.com/abot-trace/abot-trace/test/debian"
)

const rulesFile = "../../deploy/prometheus/abot-trace.rules.yml"

// tool returns the path of promtool: the machine's own, else Debian's. Nothing is
// installed for it, since the package would start a server here.
func tool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	path, err := fetch(t)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("promtool: %v", err)
	}
	if err != nil {
		t.Fatalf("promtool: %v", err)
	}
	return path
}

func fetch(t *testing.T) (string, error) {
	cache, err := debian.CacheDir()
	if err != nil {
		return "", err
	}
	apt, err := debian.NewApt(t.Context(), cache, runtime.GOARCH, func(s string) { t.Log(s) })
	if err != nil {
		return "", err
	}
	return apt.Promtool(t.Context())
}

// run wants promtool to have nothing to say against its input.
func run(t *testing.T, stdin io.Reader, args ...string) {
	t.Helper()
	cmd := exec.Command(tool(t), args...)
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestAlertRules(t *testing.T) {
	run(t, nil, "check", "rules", rulesFile)
	run(t, nil, "test", "rules", "testdata/alerts.yml")
}

// Every alert is one that the tests make fire.
func TestEveryAlertIsTested(t *testing.T) {
	type rule struct{ Alert string }
	var rules struct{ Groups []struct{ Rules []rule } }
	var tests struct {
		Tests []struct {
			Cases []struct {
				Alert string `yaml:"alertname"`
				Fires []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	for path, into := range map[string]any{rulesFile: &rules, "testdata/alerts.yml": &tests} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	var fired []string
	for _, test := range tests.Tests {
		for _, c := range test.Cases {
			if len(c.Fires) > 0 {
				fired = append(fired, c.Alert)
			}
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if !slices.Contains(fired, r.Alert) {
				t.Errorf("no test makes %s fire", r.Alert)
			}
		}
	}
}

// The dashboard's expressions parse, once what Grafana fills in is filled in.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/abot-trace.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	type record struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var records []record
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$__range", "7d", "$instance", ".*").Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: a variable that is not known", target.Expr)
			}
			records = append(records, record{fmt.Sprintf("panel:%d", len(records)), expr})
		}
	}
	if len(records) < 10 {
		t.Fatalf("%d expressions found only", len(records))
	}
	group := map[string]any{"name": "dashboard", "rules": records}
	out, err := yaml.Marshal(map[string]any{"groups": []any{group}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "check", "rules", path)
}

type fixed metrics.Snapshot

func (f fixed) Snapshot() metrics.Snapshot { return metrics.Snapshot(f) }

// The exposition parses, hostile labels included, and keeps to Prometheus's own rules
// for names and help texts.
func TestExposition(t *testing.T) {
	m := metrics.New(fixed{
		Events: map[string]uint64{"fork": 7}, Lost: 3, LastEvent: time.Unix(1700000000, 0), Running: 100, Dead: 4,
		Orphans: map[string]metrics.Orphans{"leaked": {Count: 2, RSS: 10, Swap: 20, CPUPercent: 150}},
		Leaks:   map[string]leak.Counts{"a\"}\nabot_trace_leaks 9\n\x1b[31m\xff": {Open: 1, Ended: map[string]uint64{"kill": 1}}},
		Kills:   map[metrics.Kill]uint64{{Rule: "a\"}\nabot_trace_orphans 9\n\x1b[31m\xff", Mode: "enforce", Outcome: "done"}: 1},
		Alerts:  map[string]int{"disk:/a\\\n": 2}, Notices: map[metrics.Notice]uint64{{Target: "journald", Result: "dropped"}: 9},
	}, "1.0")
	m.ObserveLatency(time.Microsecond)
	m.ObserveSample(time.Millisecond)
	m.ObserveKill(time.Second)
	page := httptest.NewRecorder()
	m.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	if n := strings.Count(page.Body.String(), "\nabot_trace_orphans"); n != 1 {
		t.Errorf("%d samples of orphans, want 1: a label has forged some", n)
	}
	if n := strings.Count(page.Body.String(), "\nabot_trace_leaks{"); n != 1 {
		t.Errorf("%d samples of leaks, want 1: a program's name has forged some", n)
	}
	run(t, page.Body, "check", "metrics")
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("message differs (-want +got):\n%s", diff)
	}
}

// TestInvalid: every file of testdata/invalid is refused with exactly the message of
// the golden file beside it.
func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("got %d files (%v), want at least 30", len(files), err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse("config.yaml", data)
			if err == nil || c != nil {
				t.Fatalf("accepted: %+v", c)
			}
			var faults Errors
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("%T is no list of faults", err)
			}
			golden(t, "invalid/"+name+".golden", err.Error()+"\n")
		})
	}
}

const everything = `
socket: {group: abot-trace}
enforce: [stale]
rules:
  - name: stale
    mode: observe
    match:
      verdict: [leaked, unknown]
      user: [app, 1000]
      unit: web*.service
      exe: [/usr/bin/python3*, /opt/x]
      cmdline: multiprocessing
      spawned_by: gunicorn
    orphaned_for: 1d12h
    older_than: 90s
    memory_above: 1.5GiB
    when: >-
      host.memory_percent > 85
      and process.threads > 1
    for: 30s
    action: kill
    scope: process
    grace: 0s
  - {name: plain}
protect: {users: [backup], units: [db*.service], cmdline: [--keep]}
budget: {kills_per_minute: 3, warm_up: 0s, pause: 250ms, stop_file: /run/x}
monitor:
  interval: 1m
  memory: {warning: 70%, critical: 99.5%}
  orphan_age: 2h
  process_memory: 1GB
notify:
  journald: {min_severity: warning}
  webhook: [{url: "https://example.org/x", min_severity: critical, hmac_secret_file: /etc/x, template: slack}]
  exec: [{command: [/bin/mail, root], timeout: 3s}]
metrics: {textfile: /var/x.prom, listen: "[::1]:9733"}
history: {size: 1GiB, age: 3d, notable_size: 8MiB}
`

func TestParse(t *testing.T) {
	c, err := Parse("config.yaml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	rules, protect := c.Policy()
	want := []policy.Rule{
		{Name: "stale", Mode: "enforce", Verdict: []string{"leaked", "unknown"}, Match: policy.Match{
			"user": []string{"app", "1000"}, "unit": []string{"web*.service"}, "exe": []string{"/usr/bin/python3*", "/opt/x"},
			"cmdline": "multiprocessing", "spawned_by": "gunicorn", "orphaned_for": 36 * time.Hour, "older_than": 90 * time.Second,
			"memory_above": uint64(3 << 29), "when": "host.memory_percent > 85 and process.threads > 1",
		}, For: 30 * time.Second, Action: "kill", Scope: "process"},
		{Name: "plain", Grace: 10 * time.Second},
	}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(policy.Protect{Users: []string{"backup"}, Units: []string{"db*.service"}, Cmdline: []string{"--keep"}}, protect); diff != "" {
		t.Errorf("protect (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(policy.BudgetSpec{KillsPerMinute: 3, Pause: 250 * time.Millisecond, Respawn: time.Minute, StopFile: "/run/x"}, c.BudgetSpec()); diff != "" {
		t.Errorf("budget (-want +got):\n%s", diff)
	}
	m := c.Monitor
	if m.Interval.Value != time.Minute || m.Memory.Warning.Value != 70 || m.Memory.Critical.Value != 99.5 ||
		m.CPU.Warning.Value != 80 || m.OrphanAge.Value != 2*time.Hour || m.ProcessMemory.Bytes != 1e9 {
		t.Errorf("monitor: got %+v", m)
	}
	n := c.Notify
	if n.Journald.MinSeverity.Value != "warning" || n.Webhook[0].URL.Value != "https://example.org/x" ||
		n.Webhook[0].Timeout.Value != DefaultTimeout || n.Exec[0].Command[1].Value != "root" || n.Exec[0].Timeout.Value != 3*time.Second {
		t.Errorf("notify: got %+v", n)
	}
	if h := c.History; h.Off || h.Size.Bytes != 1<<30 || h.Age.Value != 72*time.Hour || h.NotableSize.Bytes != 8<<20 || h.NotableAge.Value != 90*24*time.Hour {
		t.Errorf("history %+v", h)
	}
	if c.Metrics.Listen.Value != "[::1]:9733" || c.Socket.Group.Value != "abot-trace" {
		t.Errorf("metrics %+v, socket %+v", c.Metrics, c.Socket)
	}
	if _, err := c.Engine(false); err != nil {
		t.Errorf("engine: %v", err)
	}
}

// TestHistoryOff has the word off stand where a map could.
func TestHistoryOff(t *testing.T) {
	for text, off := range map[string]bool{"history: off": true, `history: "off"`: true, "history:": false, "history: {age: 1d}": false} {
		c, err := Parse("config.yaml", []byte(text+"\n"))
		if err != nil || c.History.Off != off {
			t.Errorf("%s: %v, off %v", text, err, c != nil && c.History.Off)
		}
	}
	for _, text := range []string{"history: on", "history: 512MiB", "history: {size: 1MiB}", "history: {age: 3s}", "history: {notable_size: 1kB}",
		"history: {size: 512}", "monitor: off", "history: {size: off}"} {
		if _, err := Parse("config.yaml", []byte(text+"\n")); err == nil {
			t.Errorf("%s: accepted", text)
		}
	}
}

func TestDefaultIsValid(t *testing.T) {
	r := &report{}
	if Default().validate(r); r.err() != nil {
		t.Error(r.err())
	}
}

// TestShippedDefault: the file that is installed is valid, arms nothing, says nothing
// else than the built-in defaults, and kills leaked trees only.
func TestShippedDefault(t *testing.T) {
	data, err := os.ReadFile("../../deploy/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("deploy/config.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	rules, _ := c.Policy()
	if len(rules) == 0 {
		t.Fatal("no rules")
	}
	for _, r := range rules {
		if r.Mode != wire.ModeObserve && r.Mode != "" {
			t.Errorf("%s is armed", r.Name)
		}
		if diff := cmp.Diff([]string{"leaked"}, r.Verdict); diff != "" {
			t.Errorf("%s: verdict (-want +got):\n%s", r.Name, diff)
		}
	}
	if diff := cmp.Diff(Default().BudgetSpec(), c.BudgetSpec()); diff != "" {
		t.Errorf("budget (-default +shipped):\n%s", diff)
	}
	ignorePositions := cmp.Comparer(func(a, b Pos) bool { return true })
	if diff := cmp.Diff(Default().Monitor, c.Monitor, ignorePositions); diff != "" {
		t.Errorf("monitor (-default +shipped):\n%s", diff)
	}
}

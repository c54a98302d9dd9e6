// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestStatus asks a daemon that is well, with an open leak and a rule that has ended
// something, and one whose rules are stopped by hand.
func TestStatus(t *testing.T) {
	d := startDaemon(t, unhurried+`
rules:
  - {name: all, mode: enforce, match: {verdict: [leaked], cmdline: "sleep 300"}, orphaned_for: 0s, grace: 5s}
  - {name: later, match: {verdict: [leaked]}, orphaned_for: 1h}
`)
	status := func(code int) (s wire.Status) {
		t.Helper()
		out, _ := wantRun(t, code, "status", "--json", "--socket", d.socket())
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	ended := leaveLeaf(t)
	ended.mustDie()
	d.kill(ended.pid, outcomeIs(wire.KillDone))
	s := status(0)
	if s.Schema != wire.Schema || s.Host == "" || s.Version == "" || s.State != wire.StatusWell || len(s.Problems) != 0 ||
		s.Stream.PID != d.cmd.Process.Pid || s.Stream.Processes == 0 || s.Stop == nil || s.Stop.InForce {
		t.Errorf("well: %+v", s)
	}
	if len(s.Rules) != 2 || s.Rules[0] != (wire.StatusRule{Name: "all", Mode: "enforce", Action: "kill", Kills: 1}) || s.Rules[1].Mode != "observe" {
		t.Errorf("rules: %+v", s.Rules)
	}
	if s.LastKill == nil || s.LastKill.Rule != "all" || s.LastKill.Time.IsZero() {
		t.Errorf("last kill: %+v", s.LastKill)
	}
	out, _ := wantRun(t, 0, "status", "--socket", d.socket())
	wantText(t, out, ": well", "1 armed: all (ended 1)", "1 observing: later", "is not there", "rule all (enforce): done: 1 died")

	out, _ = wantRun(t, 0, "events", "-n", "1", "--type", "kill", "--program", "sl*", "--user", "root", "--socket", d.socket())
	wantText(t, out, fmt.Sprintf("%d sleep 300", ended.pid), "rule all (enforce): done: 1 died", "- its verdict is leaked", "(SIGTERM,", "see: abot-trace explain L")
	if n := strings.Count(out, "kill    "); n != 1 {
		t.Errorf("%d kills:\n%s", n, out)
	}
	out, _ = wantRun(t, 0, "events", "-n", "1", "--type", "orphan,kill", "--json", "--socket", d.socket())
	if n := strings.Count(out, "\n"); n != 1 || !strings.Contains(out, `"type":"kill"`) {
		t.Errorf("the last of two:\n%s", out)
	}
	if out, _ = wantRun(t, 0, "events", "--type", "kill", "--program", "gunicorn", "--socket", d.socket()); out != "" {
		t.Errorf("filtered: %s", out)
	}

	out, _ = wantRun(t, 0, "stop-rules", "--reason", "release of Friday", "--config", d.config(), "--socket", d.socket())
	wantText(t, out, "The rules are stopped", filepath.Join(d.dir, "stop"))
	d.await("the notice", func() bool {
		return d.find(func(e *wire.Event) bool {
			return e.Alert != nil && e.Alert.Name == "stop_file" && e.Alert.State == wire.AlertWarning
		}) != nil
	})
	out, _ = wantRun(t, 0, "stop-rules", "--config", d.config(), "--socket", d.socket())
	wantText(t, out, "stopped already")
	leaf := leaveLeaf(t)
	d.kill(leaf.pid, outcomeIs(wire.KillBudget))
	out, _ = wantRun(t, 1, "status", "--socket", d.socket())
	wantText(t, out, "1 problem", "release of Friday", "abot-trace start-rules")
	s = status(1)
	if s.State != wire.StatusUnwell || !s.Stop.InForce || s.Stop.Since == nil || s.Stop.Reason[:len("release of Friday")] != "release of Friday" {
		t.Errorf("stopped: %+v", s)
	}
	if s.Leaks.Open == 0 {
		d.leakOf(leaf, wire.LeakOpened)
		s = status(1)
	}
	if s.Leaks.Open != 1 || s.Leaks.Leaked != 1 || s.Leaks.Processes != 1 {
		t.Errorf("leaks: %+v", s.Leaks)
	}
	leaf.mustLive()
	// Of those that were orphans before the daemon began nobody knows what they are.
	out, _ = wantRun(t, 0, "orphans", "--sort", "memory", "-n", "1", "--program", "sleep", "--verdict", "leaked", "--min-memory", "1KB", "--socket", d.socket())
	wantText(t, out, fmt.Sprint(leaf.pid), "sleep 300")
	out, _ = wantRun(t, 0, "orphans", "--min-age", "1h", "--socket", d.socket())
	wantText(t, out, "No orphans match: --min-age 1h; ")
	out, _ = wantRun(t, 0, "explain", "--socket", d.socket(), fmt.Sprint(leaf.pid))
	wantText(t, out, "held back by the stop file", "release of Friday")

	out, _ = wantRun(t, 0, "start-rules", "--config", d.config(), "--socket", d.socket())
	wantText(t, out, "The rules act again")
	out, _ = wantRun(t, 0, "start-rules", "--config", d.config(), "--socket", d.socket())
	wantText(t, out, "The rules are not stopped")
	status(0)

	d.endBy(15)
	wantRun(t, 3, "status", "--socket", d.socket())
	wantRun(t, 2, "status", "x")
}

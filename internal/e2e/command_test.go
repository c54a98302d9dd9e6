// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// run runs the program and returns its exit code, output and messages.
func run(t testing.TB, args ...string) (code int, out, messages string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(binary(), args...)
	cmd.Env = append(os.Environ(), "ABOT_TRACE_NO_SYSTEMD=1")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// wantRun is run where the exit code is known.
func wantRun(t testing.TB, code int, args ...string) (out, messages string) {
	t.Helper()
	got, out, messages := run(t, args...)
	if got != code {
		t.Fatalf("abot-trace %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, messages)
	}
	return out, messages
}

func wantText(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}

// slow rules wait for an hour, so that there is time to ask.
const slow = unhurried + `
rules:
  - {name: old, mode: enforce, match: {verdict: [leaked]}, orphaned_for: 1h}
  - {name: python, match: {exe: "/usr/bin/python*"}}
`

func TestExplain(t *testing.T) {
	d := startDaemon(t, slow)
	leaf := leaveLeaf(t)
	d.settledOrphan(leaf.pid)
	out, _ := wantRun(t, 0, "explain", "--socket", d.socket(), fmt.Sprint(leaf.pid))
	wantText(t, out, "leaked", "SIGKILL", "old applies", "python does not apply")

	out, _ = wantRun(t, 0, "explain", "--json", "--socket", d.socket(), fmt.Sprint(leaf.pid))
	var x wire.Explain
	if err := json.Unmarshal([]byte(out), &x); err != nil {
		t.Fatal(err)
	}
	if x.Process.Orphan == nil || len(x.Evidence) == 0 || len(x.Rules) != 2 || !x.Rules[0].Applies || x.Rules[0].ActsAt == nil || x.Rules[1].Applies {
		t.Errorf("explain: %s", out)
	}

	out, _ = wantRun(t, 0, "explain", "--socket", d.socket(), fmt.Sprint(os.Getpid()))
	wantText(t, out, "no orphan", "it is not an orphan")
	_, messages := wantRun(t, 1, "explain", "--socket", d.socket(), "4194303")
	wantText(t, messages, "no such process: 4194303", "hint:")
	wantRun(t, 2, "explain", "--socket", d.socket())
	wantRun(t, 2, "explain", "--socket", d.socket(), "x")
}

// TestExplainWithoutDaemon looks for itself, and says what it cannot know.
func TestExplainWithoutDaemon(t *testing.T) {
	leaf := leaveLeaf(t)
	config := writeConfig(t, slow)
	out, _ := wantRun(t, 0, "explain", "--config", config, fmt.Sprint(leaf.pid))
	wantText(t, out, "unknown", "old does not apply")
	_, messages := wantRun(t, 1, "explain", "--config", config, "4194303")
	wantText(t, messages, "no such process", "hint:")
}

func writeConfig(t testing.TB, text string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCleanup(t *testing.T) {
	// One pass ends them all: it waits for the pauses between them.
	d := startDaemon(t, strings.ReplaceAll(slow, "pause: 0s", "pause: 300ms"))
	first, second := leaveLeaf(t), leaveLeaf(t)
	d.settledOrphan(first.pid)
	d.settledOrphan(second.pid)
	out, _ := wantRun(t, 0, "cleanup", "--socket", d.socket())
	wantText(t, out, "No rule has anything to end.")

	// Other rules for this pass: root may bring them.
	config := writeConfig(t, armed)
	out, _ = wantRun(t, 0, "cleanup", "--socket", d.socket(), "--config", config)
	wantText(t, out, fmt.Sprint(first.pid), "would kill", "its verdict is leaked")
	first.mustLive()
	second.mustLive()

	d.touch("stop")
	// doctor has another configuration, and tells of the daemon's stop file.
	out, _ = wantRun(t, 0, "doctor", "--socket", d.socket(), "--config", filepath.Join(t.TempDir(), "none.yaml"))
	wantText(t, out, filepath.Join(d.dir, "stop")+" is there")
	out, _ = wantRun(t, 1, "cleanup", "--socket", d.socket(), "--config", config, "--enforce")
	wantText(t, out, "stop file")
	first.mustLive()
	if err := os.Remove(filepath.Join(d.dir, "stop")); err != nil {
		t.Fatal(err)
	}
	out, _ = wantRun(t, 0, "cleanup", "--socket", d.socket(), "--config", config, "--enforce", "--json")
	var kills []wire.Kill
	if err := json.Unmarshal([]byte(out), &kills); err != nil {
		t.Fatal(err)
	}
	if len(kills) != 2 || kills[0].Outcome != wire.KillDone || kills[1].Outcome != wire.KillDone {
		t.Errorf("kills: %s", out)
	}
	first.mustDie()
	second.mustDie()

	_, messages := wantRun(t, 2, "cleanup", "--socket", d.socket(), "--config", writeConfig(t, "nonsense: 1\n"))
	wantText(t, messages, "nonsense")
	wantRun(t, 2, "cleanup", "extra")
	_, messages = wantRun(t, 1, "cleanup", "--socket", filepath.Join(d.dir, "nobody"))
	wantText(t, messages, "no daemon")
}

// TestCleanupWithoutDaemon wants reports only: nobody saw who spawned whom.
func TestCleanupWithoutDaemon(t *testing.T) {
	leaf := leaveLeaf(t)
	config := writeConfig(t, sweeping)
	out, _ := wantRun(t, 0, "cleanup", "--config", config, "--enforce", "--json")
	var kills []wire.Kill
	if err := json.Unmarshal([]byte(out), &kills); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, k := range kills {
		if k.Outcome != wire.KillObserved || k.Verdict != wire.VerdictUnknown {
			t.Errorf("kill: %+v", k)
		}
		found = found || outcomeOf(&k, leaf.pid) != nil
	}
	if !found {
		t.Errorf("%d is not reported: %s", leaf.pid, out)
	}
	leaf.mustLive()
}

// TestCleanupOfUnknown arms a rule for what is unknown, by its command line, in a pass
// without a daemon: it ends its own, and neither others nor who runs it.
func TestCleanupOfUnknown(t *testing.T) {
	mark := fmt.Sprintf("marked-%d", os.Getpid())
	config := writeConfig(t, unhurried+`
rules:
  - {name: marked, mode: enforce, match: {verdict: [unknown], cmdline: "`+mark+`( |$)"}, grace: 1s}
`)
	other := leaveLeaf(t)
	victim := leaveMarked(t, mark)
	neighbour := leaveMarked(t, mark+"0")
	out, _ := wantRun(t, 0, "cleanup", "--config", config, "--enforce", "--json")
	var kills []wire.Kill
	if err := json.Unmarshal([]byte(out), &kills); err != nil {
		t.Fatal(err)
	}
	if len(kills) != 1 || kills[0].Outcome != wire.KillDone || outcomeOf(&kills[0], victim.pid) == nil {
		t.Errorf("kills: %s", out)
	}
	victim.mustDie()
	other.mustLive()
	neighbour.mustLive()
}

// leaveMarked leaves a process behind with a word in its command line.
func leaveMarked(t testing.TB, mark string) *process {
	t.Helper()
	f := startShell(t, nil, `sh -c 'echo leaf $$ >&3; sleep 300; :' `+mark+` & wait`)
	leaf := f.await("leaf", 1)[0]
	f.killMain()
	return leaf
}

// TestCleanupSparesItsCaller runs the pass from an orphan that the rule matches.
func TestCleanupSparesItsCaller(t *testing.T) {
	mark := fmt.Sprintf("calling-%d", os.Getpid())
	config := writeConfig(t, unhurried+`
rules:
  - {name: marked, mode: enforce, match: {verdict: [unknown], cmdline: "`+mark+`"}, grace: 1s}
`)
	f := startShell(t, []string{"CONFIG=" + config},
		`sh -c 'echo caller $$ >&3; while [ ! -e $CONFIG.go ]; do sleep 0.02; done
		$ABOT_TRACE cleanup --config $CONFIG --enforce --json >$CONFIG.out && echo done $$ >&3; sleep 300; :' `+mark+` & wait`)
	victim := leaveMarked(t, mark)
	caller := f.await("caller", 1)[0]
	f.killMain()
	if err := os.WriteFile(config+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.await("done", 1)
	caller.mustLive()
	out, err := os.ReadFile(config + ".out")
	if err != nil {
		t.Fatal(err)
	}
	var kills []wire.Kill
	if err := json.Unmarshal(out, &kills); err != nil {
		t.Fatal(err)
	}
	if len(kills) != 1 || outcomeOf(&kills[0], victim.pid) == nil {
		t.Errorf("kills: %s", out)
	}
	victim.mustDie()
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// becomes is a Python master with a worker that becomes another user after its fork.
const becomes = `exec python3 -c "
import os, time
if os.fork() == 0:
    os.setresgid(33, 33, 33)
    os.setresuid(33, 33, 33)
    os.write(3, b'leaf %d\\n' % os.getpid())
time.sleep(300)"`

// TestUserOfNow kills root's master whose worker is www-data's by now: rules go by that.
func TestUserOfNow(t *testing.T) {
	rule := func(match string) string {
		return unhurried + "rules: [{name: r, mode: enforce, orphaned_for: 0s, grace: 1s, match: {verdict: [leaked]" + match + "}}]\n"
	}
	for _, tt := range []struct {
		name, config string
		dies         bool
	}{
		{"nobody is named", rule(""), true},
		{"the worker's user is named", rule(", user: [www-data]"), true},
		{"the master's user is named", rule(", user: [root]"), false},
		{"the worker's user is protected", rule("") + "protect: {users: [www-data]}\n", false},
		{"the master's user is protected", rule("") + "protect: {users: [root]}\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := startDaemon(t, tt.config)
			f := startShell(t, nil, becomes)
			worker := f.await("leaf", 1)[0]
			f.killMain()
			if tt.dies {
				worker.mustDie()
				return
			}
			d.orphan(worker.pid)
			d.passed(t, worker)
		})
	}
}

// passed waits until the daemon has come to its next decisions, and wants the process alive.
func (d *daemon) passed(t *testing.T, p *process) {
	t.Helper()
	x, err := d.client.Explain(t.Context(), int32(p.pid), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range x.Rules {
		if r.Applies {
			t.Errorf("rule %s applies: %s", r.Name, r.Why)
		}
	}
	p.mustLive()
}

// TestSetuidBelowUsersShell has an ordinary user kill his own shell above a program that has
// root's rights, beside one of his own: only that one is ended.
func TestSetuidBelowUsersShell(t *testing.T) {
	d := startDaemon(t, armed)
	dir, err := os.MkdirTemp("/var/tmp", "abot-trace-setuid-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "job")
	if err := os.WriteFile(program, sleep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	say := `(echo %s $(sh -c 'echo $PPID') >&3; exec `
	f := startShell(t, []string{"JOB=" + program}, `exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "`+
		strings.NewReplacer("%s", "job", "$(", `\$(`, "$PPID", `\$PPID`).Replace(say)+`\$JOB 300) & `+
		strings.NewReplacer("%s", "own", "$(", `\$(`, "$PPID", `\$PPID`).Replace(say)+`sleep 300) & wait"`)
	job, own := f.await("job", 1)[0], f.await("own", 1)[0]
	named("job")(t, job, "")
	named("sleep")(t, own, "")
	f.killMain()
	own.mustDie()
	d.passed(t, job)
}

// TestMarksOfBigEnvironment keeps a member of a tree that says so in an environment of which
// the kernel's programs read only the beginning, and ends one like it that does not.
func TestMarksOfBigEnvironment(t *testing.T) {
	startDaemon(t, armed)
	f := startShell(t, []string{"A_BIG_ONE=" + strings.Repeat("x", 20_000)},
		`sh -c 'ABOT_TRACE_KEEP=1 sh $F leaf kept & sh $F leaf gone & wait' & wait`)
	kept, gone := f.await("kept", 1)[0], f.await("gone", 1)[0]
	f.killMain()
	gone.mustDie()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		kept.mustLive()
	}
	kept.end()
}

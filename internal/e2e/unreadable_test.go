// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/slowread"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// bigEnvironment is more than the kernel's programs read of one: the daemon has to read it.
var bigEnvironment = []string{"A_BIG_ONE=" + strings.Repeat("x", 20_000)}

// blockedReads is how many threads of the daemon wait for processes to let them read.
func (d *daemon) blockedReads() (n int) {
	d.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, name := range tasks {
		if stat, err := os.ReadFile(name); err == nil && strings.Contains(string(stat), ") D ") {
			n++
		}
	}
	return n
}

// endsOf leaves an orphan of the user's, whose environment has to be read, and wants it ended.
func (d *daemon) endsOf(uid string) {
	d.t.Helper()
	f := startShell(d.t, bigEnvironment, "exec setpriv --reuid="+uid+" --regid="+uid+" --clear-groups sh -c '"+
		mark+" & echo child $! >&3; wait'")
	child := f.await("child", 1)[0]
	f.killMain()
	child.mustDie()
}

// TestUnreadableOrphans has one user's orphans let nobody read them. That costs the daemon as
// many threads as one user may block, however many they are; they are spared, and other users'
// orphans are read, judged and ended as ever, also by a daemon that finds the blocked ones.
func TestUnreadableOrphans(t *testing.T) {
	const blocked = 2 * slowread.PerUser
	d := startDaemon(t, marked)
	// So that none of them was read before it blocked.
	d.signal(unix.SIGSTOP)
	env := append([]string{"SCRIPT=" + proctest.UnreadableScript(t)}, bigEnvironment...)
	f := startShell(t, env, fmt.Sprintf("for i in $(seq %d); do python3 $SCRIPT 2001 >&3 & done; wait", blocked))
	list := f.await("ready", blocked)
	for _, p := range list {
		proctest.Eventually(t, "it blocks", func() bool { return proctest.Blocked(p.pid) })
	}
	f.killMain()
	d.signal(unix.SIGCONT)
	for _, p := range list {
		d.orphanWith(t, p.pid, wire.VerdictUnknown)
	}
	for _, uid := range []string{"2002", "0", "2002"} {
		d.endsOf(uid)
	}
	if n := d.blockedReads(); n == 0 || n > slowread.PerUser {
		t.Errorf("%d reads are blocked, want some and at most %d", n, slowread.PerUser)
	}
	d.endBy(unix.SIGTERM)
	d.start()
	d.endsOf("2002")
	if n := d.blockedReads(); n == 0 || n > slowread.PerUser {
		t.Errorf("after a restart %d reads are blocked, want some and at most %d", n, slowread.PerUser)
	}
	for _, p := range list {
		p.mustLive()
		if !proctest.Blocked(p.pid) {
			t.Fatal("the test took longer than they block")
		}
	}
}

// TestUnreadableWithoutDaemon has commands look by themselves while a process lets nobody read
// it: none waits for it.
func TestUnreadableWithoutDaemon(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(armed, "DIR", t.TempDir())), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"tree"}, {"orphans"}, {"cleanup", "--config", config}} {
		t.Run(args[0], func(t *testing.T) {
			blocked := proctest.Unreadable(t)
			out, messages := wantRun(t, 0, append(args, "--no-daemon")...)
			if !proctest.Blocked(blocked) {
				t.Fatalf("it ended when the process did: %s%s", out, messages)
			}
			if args[0] == "tree" && !strings.Contains(out, fmt.Sprint(blocked)) {
				t.Errorf("it is not in the tree:\n%s", out)
			}
		})
	}
}

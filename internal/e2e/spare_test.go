// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// sweeping are rules that end every tree at once that is not known to be deliberate.
const sweeping = unhurried + `
rules:
  - {name: leaked, mode: enforce, match: {verdict: [leaked]}, orphaned_for: 0s, grace: 1s}
  - {name: sweep, mode: enforce, match: {verdict: [leaked, unknown]}, orphaned_for: 0s, grace: 1s}
`

// TestNoWrongKill has each kind of process that a cleaner has killed wrongly somewhere
// live beside rules that match everything they may, and wants it alive after a process
// that was leaked later is dead.
func TestNoWrongKill(t *testing.T) {
	script, err := filepath.Abs("testdata/family.sh")
	if err != nil {
		t.Fatal(err)
	}
	quiet := " </dev/null >/dev/null 2>&1"
	cases := []struct {
		name    string
		env     []string
		shell   string                                       // $F is the script, $D a directory; the shell is the parent
		find    func(testing.TB, *family, string) []*process // nil: those who say that they are leaves
		prepare func(testing.TB, *process, string)           // before the parent ends
		end     func(*family)                                // of the parent; nil: it lives, or has left
		verdict string                                       // of the orphan; empty where there is none
	}{
		{name: "nohup", shell: "nohup sh $F leaf" + quiet + " & read line; exit 0", end: (*family).leave, verdict: wire.VerdictDeliberate},
		{name: "setsid", shell: "setsid sh $F leaf" + quiet + " & read line; exit 0", end: (*family).leave, verdict: wire.VerdictDeliberate},
		{name: "double fork", shell: "setsid sh $F leave sh $F leaf" + quiet + " & wait; read line; exit 0", end: (*family).leave, verdict: wire.VerdictDeliberate},
		{name: "tmux server", shell: "exec tmux -S $D/tmux -f /dev/null new-session -d \"exec 3>$D/said; exec sh $F leaf\"",
			find: tmuxServer},
		{name: "child of a living agent", shell: "sh $F leaf & wait"},
		{name: "marked to be kept", env: []string{"ABOT_TRACE_KEEP=1"}, shell: "sh $F leaf & wait", end: (*family).killMain,
			verdict: wire.VerdictDeliberate},
		{name: "kept from OOM", shell: "sh $F leaf & wait", prepare: says("oom_score_adj", "-1000"), end: (*family).killMain,
			verdict: wire.VerdictLeaked},
		{name: "a fact that cannot be read", shell: "sh $F leaf & wait", prepare: says("oom_score_adj", "?"), end: (*family).killMain,
			verdict: wire.VerdictLeaked},
		{name: "named as sshd", shell: "cp /bin/sleep $D/sshd; (echo leaf $(sh -c 'echo $PPID') >&3; exec $D/sshd 300) & wait",
			prepare: named("sshd"), end: (*family).killMain, verdict: wire.VerdictLeaked},
	}
	d := startDaemon(t, sweeping)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			f := startCommand(t, append(c.env, "F="+script, "D="+dir), exec.Command("sh", "-c", c.shell))
			if c.find == nil {
				c.find = leaves
			}
			spared := c.find(t, f, dir)
			if c.prepare != nil {
				c.prepare(t, spared[0], dir)
			}
			if c.end != nil {
				c.end(f)
			}
			if c.verdict != "" {
				d.orphanWith(t, spared[0].pid, c.verdict)
			}
			d.settled(t)
			for _, p := range spared {
				p.mustLive()
			}
		})
	}
}

// TestNameOfAnOwner has what is left behind carry the name of a program that owns others: it
// says nothing.
func TestNameOfAnOwner(t *testing.T) {
	d := startDaemon(t, resting)
	for _, name := range []string{"tmux", "screen", "containerd-shim", "systemd"} {
		t.Run(name, func(t *testing.T) {
			f := startCommand(t, []string{"N=" + name, "D=" + t.TempDir()}, exec.Command("sh", "-c",
				"cp /bin/sleep $D/$N; (echo leaf $(sh -c 'echo $PPID') >&3; exec $D/$N 300) & wait"))
			leaf := f.await("leaf", 1)[0]
			named(name)(t, leaf, "")
			f.killMain()
			if o := d.settledOrphan(leaf.pid); o.Verdict != wire.VerdictLeaked {
				t.Errorf("verdict: %s, want leaked\n%s", o.Verdict, strings.Join(o.Evidence, "\n"))
			}
		})
	}
}

// named waits until the process has executed the program of that name: it says so before.
func named(comm string) func(testing.TB, *process, string) {
	return func(t testing.TB, p *process, _ string) {
		proctest.Eventually(t, "the name "+comm, func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
			return err == nil && string(b) == comm+"\n"
		})
	}
}

// TestLateDetach has a child become nohup, or a session's leader, only when its shell has
// left: what was told as unknown is deliberate then.
func TestLateDetach(t *testing.T) {
	d := startDaemon(t, resting)
	for _, how := range []string{"nohup", "setsid"} {
		t.Run(how, func(t *testing.T) {
			// It counts only soon after the orphaning: a slow machine gets another chance.
			for range 10 {
				if detachLate(t, d, how) == wire.VerdictDeliberate {
					return
				}
			}
			t.Error("it stays unknown")
		})
	}
}

// detachLate returns the verdict when all is done.
func detachLate(t *testing.T, d *daemon, how string) string {
	t.Helper()
	f := startShell(t, nil, "exec 4<&0; (echo child $(sh -c 'echo $PPID') >&3; read line <&4; exec "+how+
		" sh $F leaf </dev/null >/dev/null 2>&1) & exit 0")
	child := f.await("child", 1)[0]
	if err := f.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	d.orphanWith(t, child.pid, wire.VerdictUnknown)
	fmt.Fprintln(f.in)
	f.await("leaf", 1)
	p, err := d.client.Process(t.Context(), int32(child.pid))
	if err != nil {
		t.Fatal(err)
	}
	return p.Orphan.Verdict
}

// says makes a file of a process's directory in procfs hold the text: not every root
// may lower a score, and no process lies about its own.
func says(file, text string) func(testing.TB, *process, string) {
	return func(t testing.TB, p *process, dir string) {
		t.Helper()
		lie := filepath.Join(dir, file)
		if err := os.WriteFile(lie, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		target := fmt.Sprintf("/proc/%d/%s", p.pid, file)
		if err := unix.Mount(lie, target, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(target, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// leaves are who says so.
func leaves(_ testing.TB, f *family, _ string) []*process {
	f.t.Helper()
	return f.await("leaf", 1)
}

// tmuxServer is the server, and who runs in its session.
func tmuxServer(t testing.TB, _ *family, dir string) []*process {
	t.Helper()
	var pid int
	proctest.Eventually(t, "somebody in the session", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "said"))
		n, _ := fmt.Sscanf(string(b), "leaf %d\n", &pid)
		return n == 1
	})
	inside := hold(t, pid)
	server := hold(t, parentOf(t, pid))
	t.Cleanup(func() {
		inside.end()
		server.end()
	})
	return []*process{server, inside}
}

func (d *daemon) orphanWith(t *testing.T, pid int, verdict string) {
	t.Helper()
	if o := d.orphan(pid); o.Verdict != verdict {
		t.Errorf("verdict of %d: %s, want %s\n%s", pid, o.Verdict, verdict, strings.Join(o.Evidence, "\n"))
	}
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

// TestOwnDescendantIsSpared has a hook, which is the daemon's own descendant, leave a
// process behind as a leak does, and wants it alive after a stranger's is dead.
func TestOwnDescendantIsSpared(t *testing.T) {
	const seconds = "287" // by which it is known
	// The hook stays: whatever it leaves is ended with it.
	d := startDaemon(t, sweeping+`
notify:
  exec: [{command: [/bin/sh, -c, 'sh -c "sleep `+seconds+` & until grep -q sleep /proc/\$!/comm; do :; done; kill -9 \$\$"; sleep 60'], timeout: 60s, min_severity: info}]
`)
	leaveLeaf(t) // which is what the hook is told of
	var left *process
	d.await("an orphan of the hook's", func() bool {
		e := d.find(func(e *wire.Event) bool {
			return e.Type == wire.TypeOrphan && strings.Join(e.Process.Cmdline, " ") == "sleep "+seconds
		})
		if e != nil && left == nil {
			left = hold(t, int(e.Process.PID))
		}
		return left != nil
	})
	d.orphanWith(t, left.pid, wire.VerdictLeaked)
	d.settled(t)
	left.mustLive()
	out, _ := wantRun(t, 0, "explain", "--socket", d.socket(), fmt.Sprint(left.pid))
	wantText(t, out, "descendant")
}

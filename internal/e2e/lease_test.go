// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// resting is a configuration without rules, and a warm-up that would hold any.
const resting = "budget: {warm_up: 1h, stop_file: DIR/stop}\n"

// escapes plants one descendant for each way to leave a supervisor behind, and waits.
const escapes = `
sh $F leaf plain &
setsid sh $F leaf setsid &
sh $F leave sh $F leaf double-fork
setsid sh $F leave sh $F leaf setsid-double-fork
env -i PATH=$PATH setsid sh $F leave sh $F leaf emptied
sh $F deaf deaf &
setsid sh -c 'sh $F leaf deep & wait' &
sh -c 'echo 0 >$CGROUP/cgroup.procs && exec sh $F leaf moved' &
echo main $$ >&3
wait
`

var escaped = []string{"plain", "setsid", "double-fork", "setsid-double-fork", "emptied", "deaf", "deep", "moved", "main"}

// TestSupervisorKilled kills supervise itself, and wants the daemon to leave nothing
// of what it held, at once.
func TestSupervisorKilled(t *testing.T) {
	d := startDaemon(t, resting)
	f := startShell(t, []string{"CGROUP=" + otherCgroup(t)}, "exec $ABOT_TRACE supervise --socket "+d.socket()+" --grace 300ms -- sh -c \"$ESCAPES\"")
	for _, role := range escaped {
		f.await(role, 1)
	}
	f.killMain()
	f.empty()
	main := f.await("main", 1)[0]
	k := d.kill(main.pid, nil)
	if k.Rule != "lease" || k.Outcome != wire.KillDone || k.Verdict != wire.VerdictLeaked {
		t.Errorf("kill: %+v", k)
	}
	if k.GraceSeconds != 0.3 {
		t.Errorf("grace: %v s", k.GraceSeconds)
	}
}

// TestSupervisorGivesBack has supervise end in order, and wants the daemon to leave alone
// whom it named, with what descends from it.
func TestSupervisorGivesBack(t *testing.T) {
	for _, flags := range []string{"--report-only", "--keep ^sleep"} {
		t.Run(flags, func(t *testing.T) {
			d := startDaemon(t, resting)
			f := startShell(t, nil, "$ABOT_TRACE supervise --socket "+d.socket()+" --grace 300ms "+flags+
				" -- sh -c 'setsid sh $F leaf kept & sleep 0.3'; echo over $$ >&3; wait; sleep 1000")
			kept := f.await("kept", 1)[0]
			f.await("over", 1)
			// What the daemon answers now is later than supervise's death.
			x, err := d.client.Explain(t.Context(), int32(kept.pid), "")
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range x.Evidence {
				if strings.Contains(line, "lease") {
					t.Errorf("evidence %q: it stays", line)
				}
			}
			var ended []string
			err = d.client.Events(t.Context(), []string{wire.TypeKill}, 0, false, func(e *wire.Event) error {
				ended = append(ended, e.Kill.Rule)
				return nil
			})
			if err != nil || len(ended) > 0 {
				t.Errorf("kills by %v (%v), want none", ended, err)
			}
			kept.mustLive()
		})
	}
}

// TestCallerLeases has a script take a lease by the command.
func TestCallerLeases(t *testing.T) {
	d := startDaemon(t, resting)
	f := startShell(t, nil, "$ABOT_TRACE lease --grace 2s --socket "+d.socket()+" && echo held $$ >&3; sh $F leaf & ABOT_TRACE_KEEP=1 sh $F leaf kept & wait")
	f.await("held", 1)
	leaf, kept := f.await("leaf", 1)[0], f.await("kept", 1)[0]
	f.killMain()
	leaf.mustDie()
	if k := d.kill(leaf.pid, nil); k.Rule != "lease" || outcomeOf(k, kept.pid) != nil {
		t.Errorf("kill: %+v", k)
	}
	kept.mustLive()
}

// TestMarkLeases has an environment mark make the outermost marked process a holder,
// whatever it dies of.
func TestMarkLeases(t *testing.T) {
	d := startDaemon(t, resting)
	f := startShell(t, nil, "ABOT_TRACE_LEASH=1 sh -c 'echo holder $$ >&3; sh $F tree & env -u ABOT_TRACE_LEASH sh $F leaf unmarked & wait' & wait")
	holder, root := f.await("holder", 1)[0], f.await("root", 1)[0]
	leaves, unmarked := f.await("leaf", 3), f.await("unmarked", 1)[0]
	holder.end()
	for _, p := range append(leaves, root) {
		p.mustDie()
	}
	if k := d.kill(root.pid, nil); k.Rule != "lease" || k.Outcome != wire.KillDone || len(k.Processes) != 4 {
		t.Errorf("kill: %+v", k)
	}
	unmarked.mustLive()
}

// TestMarkOlderThanDaemon wants the mark to count where the shell above the holder is
// older than the daemon, as a login shell is after an upgrade.
func TestMarkOlderThanDaemon(t *testing.T) {
	f := startShell(t, nil, "echo shell $$ >&3; read line; ABOT_TRACE_LEASH=1 sh $F parent leaf & wait")
	f.await("shell", 1)
	d := startDaemon(t, resting)
	d.filled(f.cmd.Process.Pid)
	fmt.Fprintln(f.in)
	parent, leaf := f.await("parent", 1)[0], f.await("leaf", 1)[0]
	parent.end()
	leaf.mustDie()
	if k := d.kill(leaf.pid, nil); k.Rule != "lease" {
		t.Errorf("kill: %+v", k)
	}
}

// TestLeaseOfNobody wants a lease to reach no process that its holder's user could
// not have signalled itself.
func TestLeaseOfNobody(t *testing.T) {
	d := startDaemon(t, resting)
	// The shell is root's until it has started the one that is not to be reached.
	f := startShell(t, nil, `sh -c 'sh $F leaf roots & exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "
		$ABOT_TRACE lease --socket `+d.socket()+` && echo holder \$\$ >&3; sh $F leaf own & wait"' & wait`)
	roots, holder, own := f.await("roots", 1)[0], f.await("holder", 1)[0], f.await("own", 1)[0]
	holder.end()
	own.mustDie()
	if k := d.kill(own.pid, nil); outcomeOf(k, roots.pid) != nil {
		t.Errorf("kill: %+v", k)
	}
	roots.mustLive()
}

// TestLeaseOfAnother wants a user to be refused a lease for a caller of root's.
func TestLeaseOfAnother(t *testing.T) {
	d := startDaemon(t, resting)
	cmd := asNobody(exec.Command(binary(), "lease", "--socket", d.socket()))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is another user's") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStopFileHoldsLease wants the stop file to stop a lease's end, too.
func TestStopFileHoldsLease(t *testing.T) {
	d := startDaemon(t, resting)
	f := startShell(t, nil, "$ABOT_TRACE lease --socket "+d.socket()+" && echo held $$ >&3; sh $F leaf & wait")
	f.await("held", 1)
	leaf := f.await("leaf", 1)[0]
	d.touch("stop")
	f.killMain()
	d.kill(leaf.pid, outcomeIs(wire.KillBudget))
	leaf.mustLive()
}

// startShell runs a line of shell as a family. $F is the script, $ABOT_TRACE the program.
func startShell(t testing.TB, env []string, line string) *family {
	t.Helper()
	script, err := filepath.Abs("testdata/family.sh")
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "F="+script, "ABOT_TRACE="+binary(), "ESCAPES="+escapes)
	return startCommand(t, env, exec.Command("sh", "-c", line))
}

// TestLeasesOnTheDeaf has one user's 64 leases end above trees that ignore SIGTERM, each with a
// grace of an hour: rules go on ending others' leaks at once.
func TestLeasesOnTheDeaf(t *testing.T) {
	const leases = 64
	d := startDaemon(t, marked)
	f := startShell(t, nil, "exec setpriv --reuid=2001 --regid=2001 --clear-groups sh -c '"+fmt.Sprintf(`
for i in $(seq %d); do
	sh -c "\$ABOT_TRACE lease --socket %s --grace 1h >/dev/null || exit
		sh -c \"trap \\\"\\\" TERM; echo deaf \\\$\\\$ >&3; exec sleep 300\" & echo holder \$\$ >&3; wait" &
done
wait`, leases, d.socket())+"'")
	holders, deaf := f.await("holder", leases), f.await("deaf", leases)
	for _, p := range holders {
		p.end()
	}
	d.await("each lease's kill has begun", func() bool { return strings.Count(d.log.String(), "rule=lease") >= leases })
	for _, name := range []string{"root's", "root's next"} {
		p := newPairOf(t, name, mark)
		p.killMain()
		p.child.mustDie()
	}
	d.endsOf("2002")
	for _, p := range deaf {
		p.mustLive()
	}
	if _, err := d.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// touch makes a file in the test's directory.
func (d *daemon) touch(name string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), nil, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// filled waits until the daemon knows the command line of a process older than itself.
func (d *daemon) filled(pid int) {
	d.t.Helper()
	d.await("older processes have their words", func() bool {
		p, err := d.client.Process(d.t.Context(), int32(pid))
		return err == nil && len(p.Cmdline) > 0
	})
}

// otherCgroup makes a cgroup v2 for a process to leave for.
func otherCgroup(t *testing.T) string {
	t.Helper()
	root := ""
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if left, right, _ := strings.Cut(line, " - "); strings.HasPrefix(right, "cgroup2 ") {
			root = strings.Fields(left)[4]
		}
	}
	if root == "" {
		t.Fatal("no cgroup v2 is mounted")
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			root = filepath.Join(root, path)
		}
	}
	dir, err := os.MkdirTemp(root, "abot-trace-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		proctest.Eventually(t, "the cgroup can be removed", func() bool { return os.Remove(dir) == nil })
	})
	return dir
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// watching ends nobody by a rule; nothing holds back who ends by hand.
const watching = "budget: {warm_up: 1h, kills_per_minute: 1, stop_file: DIR/stop}\nrules: []\n"

// TestKillByHand ends trees and leaks that somebody names, and nobody else.
func TestKillByHand(t *testing.T) {
	d := startDaemon(t, watching)
	socket := d.socket()

	t.Run("a living tree", func(t *testing.T) {
		f := startShell(t, nil, `sh $F leaf & ABOT_TRACE_KEEP=1 sh $F leaf kept & echo main $$ >&3; wait`)
		leaf, kept, main := f.await("leaf", 1)[0], f.await("kept", 1)[0], f.await("main", 1)[0]
		_, messages := wantRun(t, 2, "kill", "--socket", socket, fmt.Sprint(main.pid))
		wantText(t, messages, "--yes")
		out, _ := wantRun(t, 0, "kill", "--dry-run", "--socket", socket, fmt.Sprint(main.pid))
		wantText(t, out, fmt.Sprintf("the tree of %d, 2 processes", main.pid), fmt.Sprint(leaf.pid), fmt.Sprintf("left alone: %d", kept.pid), "ABOT_TRACE_KEEP=1")
		main.mustLive()
		out, _ = wantRun(t, 0, "kill", "--yes", "--json", "--socket", socket, fmt.Sprint(main.pid))
		var k wire.Kill
		if err := json.Unmarshal([]byte(out), &k); err != nil {
			t.Fatal(err)
		}
		if k.Rule != "manual" || k.Outcome != wire.KillDone || len(k.Processes) != 2 || k.RequestedBy == nil || k.RequestedBy.UID != 0 ||
			k.RequestedBy.Comm == "" || k.RequestedBy.PID == 0 {
			t.Errorf("kill: %s", out)
		}
		main.mustDie()
		leaf.mustDie()
		kept.mustLive()
		if told := d.kill(main.pid, nil); told.Rule != "manual" || told.RequestedBy == nil {
			t.Errorf("told: %+v", told)
		}
		_, messages = wantRun(t, 2, "kill", "--yes", "--socket", socket, fmt.Sprintf("%d@%d", main.pid, k.Processes[0].StartNS))
		wantText(t, messages, "no process has pid")
		// The kept one is ended if it is named itself, at once if that is asked for.
		wantRun(t, 0, "kill", "--yes", "--signal", "kill", "--scope", "process", "--socket", socket, fmt.Sprint(kept.pid))
		kept.mustDie()
		if k := d.kill(kept.pid, nil); k.Signal != "SIGKILL" || k.GraceSeconds != 0 {
			t.Errorf("kill: %+v", k)
		}
	})

	t.Run("what a dead one left", func(t *testing.T) {
		f := startFamily(t, "parent", "tree")
		root, leaves := f.await("root", 1)[0], f.await("leaf", 3)
		leaker := f.cmd.Process.Pid
		f.killMain()
		l := d.leakOf(root, wire.LeakOpened)
		out, _ := wantRun(t, 0, "kill", "--dry-run", "--json", "--socket", socket, fmt.Sprint(leaker))
		var plan wire.KillPlan
		if err := json.Unmarshal([]byte(out), &plan); err != nil || plan.Leak != l.ID || len(plan.Processes) != 4 {
			t.Errorf("plan: %v, %s", err, out)
		}
		_, messages := wantRun(t, 2, "kill", "--yes", "--socket", socket, fmt.Sprintf("%d@%d", leaves[0].pid, 1))
		wantText(t, messages, "it is another process by now")
		wantRun(t, 0, "kill", "--yes", "--socket", socket, fmt.Sprintf("%d@%d", l.Leaker.PID, l.Leaker.StartNS))
		root.mustDie()
		for _, leaf := range leaves {
			leaf.mustDie()
		}
		if l = d.leakOf(root, wire.LeakEnded); l.EndedBy != "kill" || len(l.Rules) != 1 || l.Rules[0] != "manual" {
			t.Errorf("ended: %+v", l)
		}
		_, messages = wantRun(t, 1, "kill", "--yes", "--socket", socket, l.ID)
		wantText(t, messages, "has ended")
		wantRun(t, 1, "kill", "--yes", "--socket", socket, "L000000000000")
	})

	t.Run("who is not ended", func(t *testing.T) {
		_, messages := wantRun(t, 1, "kill", "--yes", "--socket", socket, "1")
		wantText(t, messages, "protected", "it is pid 1")
		_, messages = wantRun(t, 1, "kill", "--yes", "--socket", socket, fmt.Sprint(d.cmd.Process.Pid))
		wantText(t, messages, "it is abot-trace itself")
		for _, args := range [][]string{{"x"}, {"0"}, {"1@x"}, {}, {"1", "2"}, {"--scope", "all", "1"}, {"--grace", "5", "1"}, {"--signal", "SIGSTOP", "1"},
			{"4194303"}} {
			wantRun(t, 2, append([]string{"kill", "--yes", "--socket", socket}, args...)...)
		}
	})

	t.Run("another user", func(t *testing.T) {
		root := leaveLeaf(t)
		f := startCommand(t, nil, exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", `echo own $$ >&3; exec sleep 300`))
		own := f.await("own", 1)[0]
		as := func(args ...string) (string, error) {
			words := append([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", binary(), "kill", "--yes", "--socket", socket}, args...)
			out, err := exec.Command("setpriv", words...).CombinedOutput()
			return string(out), err
		}
		if out, err := as(fmt.Sprint(root.pid)); err == nil || !strings.Contains(out, "it is another user's") {
			t.Errorf("another's: %v, %s", err, out)
		}
		root.mustLive()
		if out, err := as(fmt.Sprint(own.pid)); err != nil {
			t.Errorf("his own: %v, %s", err, out)
		}
		own.mustDie()
	})

	t.Run("the stop file", func(t *testing.T) {
		leaf := leaveLeaf(t)
		d.touch("stop")
		_, messages := wantRun(t, 2, "kill", "--yes", "--socket", socket, fmt.Sprint(leaf.pid))
		wantText(t, messages, "--yes does not suffice")
		if out := answer(t, "n\n", "kill", "--yes", "--socket", socket, fmt.Sprint(leaf.pid)); !strings.Contains(out, "nothing was ended") {
			t.Errorf("no: %s", out)
		}
		leaf.mustLive()
		out := answer(t, "y\ny\n", "kill", "--socket", socket, fmt.Sprint(leaf.pid))
		wantText(t, out, "has called off all kills", "End this?", "1 died")
		leaf.mustDie()
	})
}

// answer runs the program at a terminal where somebody types the answers, and returns what
// is to be seen there.
func answer(t *testing.T, answers string, args ...string) string {
	t.Helper()
	master, slave := proctest.OpenPTY(t)
	defer master.Close()
	cmd := exec.Command(binary(), args...)
	cmd.Env = append(os.Environ(), "ABOT_TRACE_NO_SYSTEMD=1", "NO_COLOR=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if _, err := master.WriteString(answers); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var b strings.Builder
	for lines := bufio.NewScanner(master); lines.Scan(); { // until the last has closed it: EIO
		b.WriteString(lines.Text() + "\n")
	}
	_ = cmd.Wait()
	return b.String()
}

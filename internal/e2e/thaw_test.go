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
)

// TestKilledWhileFrozen kills the daemon at the moment in which a tree is stopped, and
// starts no other: thaw lets the tree continue.
func TestKilledWhileFrozen(t *testing.T) {
	for attempt := range 20 {
		if frozen := killFrozen(t); frozen > 0 {
			t.Logf("%d processes were stopped, at attempt %d", frozen, attempt+1)
			return
		}
	}
	t.Error("the daemon never died with a tree stopped")
}

// killFrozen returns how many processes a killed daemon left stopped: none where it
// was quicker.
func killFrozen(t *testing.T) int {
	d := startDaemon(t, armed)
	d.dies = true
	if out, err := d.thaw(); err == nil || !strings.Contains(out, fmt.Sprintf("(pid %d)", d.cmd.Process.Pid)) {
		t.Fatalf("thaw beside a daemon: %v, %s", err, out)
	}
	noted := watchDir(t, filepath.Join(d.run, "stopped"))
	f := startFamily(t, "parent", "broad")
	f.await("leaf", 100)
	root := f.await("root", 1)[0]
	f.killMain()
	noted() // before the first SIGSTOP
	proctest.Eventually(t, "its root is stopped, or ended", func() bool { return !runs(root.pid) })
	d.signal(unix.SIGKILL)
	_ = d.cmd.Wait()

	stopped := stoppedProcesses(t)
	if len(stopped) == 0 {
		return 0
	}
	out, err := d.thaw()
	if err != nil || !strings.Contains(out, "processes continue") {
		t.Errorf("thaw: %v, %s", err, out)
	}
	proctest.Eventually(t, "nobody is stopped", func() bool { return len(stoppedProcesses(t)) == 0 })
	if out, err := d.thaw(); err != nil || out != "" {
		t.Errorf("thaw once more: %v, %q", err, out)
	}
	return len(stopped)
}

func (d *daemon) thaw() (string, error) {
	out, err := exec.Command(binary(), "thaw", "--socket", d.socket()).CombinedOutput()
	return string(out), err
}

// watchDir returns a wait for the next file in dir that is written.
func watchDir(t *testing.T, dir string) (wait func()) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(patience.Milliseconds())); n != 1 {
			t.Fatalf("nothing in %s: %v", dir, err)
		}
	}
}

// stoppedProcesses lists the processes of the namespace in state T.
func stoppedProcesses(t *testing.T) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && state(pid) == 'T' {
			pids = append(pids, pid)
		}
	}
	return pids
}

func runs(pid int) bool {
	s := state(pid)
	return s == 'R' || s == 'S' || s == 'D'
}

// state is the letter in /proc/PID/stat, 0 where there is no such process.
func state(pid int) byte {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	if rest == "" {
		return 0
	}
	return rest[0]
}

// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// The cgroup goes with the tree; what is kept moves up, and cgroups that CMD made
// below go, too.
func TestCgroupIsRemoved(t *testing.T) {
	proctest.NeedRoot(t)
	own, err := ownCgroup()
	if err != nil {
		t.Fatal(err)
	}
	script := `dir=` + own + `/abot-trace-supervise-$PPID
		mkdir "$dir/below" && sh -c 'echo 0 >"$1/below/cgroup.procs"; trap "" TERM; sleep 1112' sh "$dir" &
		ABOT_TRACE_KEEP=1 setsid sleep 1111 &
		echo up >&3; read x; exit 4`
	s := start(t, options{Argv: []string{"sh", "-c", script}, Cgroup: true, Grace: 100 * time.Millisecond})
	s.life.expect(t, "up")
	kept := waitForSleep(t, s.Process.Pid, "1111")
	waitForSleep(t, s.Process.Pid, "1112")
	dir := filepath.Join(own, "abot-trace-supervise-"+itoa(s.Process.Pid))
	if _, err := os.Stat(filepath.Join(dir, "below")); err != nil {
		t.Fatalf("the test's set-up failed: %v", err)
	}
	s.stdin.Close()
	if got := s.code(t); got != 4 {
		t.Errorf("exit code %d, want 4", got)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the cgroup is left: %v", err)
	}
	left := proctest.Descendants(t)
	if len(left) != 1 || left[0].PID != kept.PID {
		t.Errorf("left %+v, want only the kept process %d", left, kept.PID)
	}
	if membership, err := os.ReadFile("/proc/" + itoa(kept.PID) + "/cgroup"); err != nil || strings.Contains(string(membership), "abot-trace-supervise") {
		t.Errorf("the kept process is in %q, %v", membership, err)
	}
	if p, err := descend.Read(kept.PID); err != nil || p.State == 'T' {
		t.Errorf("the kept process does not run: %+v, %v", p, err)
	}
	if err := descend.Signal(kept, unix.SIGKILL); err != nil {
		t.Error(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build vm

package live

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

const (
	bombFor   = time.Minute
	bombTasks = 150
)

// TestForkBomb lets a fork bomb run for a minute against the limit of its control group,
// while leaks happen beside it: each is seen, judged and ended. What the bomb outran is told,
// and nothing of it stays in the tree when it is over.
func TestForkBomb(t *testing.T) {
	d := newDaemon(t, `
budget: {warm_up: 0s, pause: 0s, kills_per_minute: 1000, stop_file: DIR/stop}
rules:
  - {name: leaks, mode: enforce, match: {verdict: [leaked], cmdline: "^sleep 666$"}, orphaned_for: 0s, grace: 1s}
notify: {per_user: 50}
`)
	d.start(t.Context())
	defer d.stop()
	before, err := d.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	group := newGroup(t)
	// All of it is in the group from the fork on. Who gets no fork tries again.
	bomb := exec.Command("sh", "-c", "bomb() { while :; do bomb & sleep 0.1; true; done; }; bomb")
	bomb.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := bomb.Start(); err != nil {
		t.Fatal(err)
	}
	leaks := 0
	for until := time.Now().Add(bombFor); time.Now().Before(until); leaks++ {
		victim, _ := d.leave("sleep 666")
		d.event("the leak beside it is ended", func(e *wire.Event) bool {
			return e.Kill != nil && e.Kill.Outcome == wire.KillDone && len(e.Kill.Processes) == 1 && int(e.Kill.Processes[0].PID) == victim
		})
	}
	endGroup(t, group)
	_ = bomb.Wait()
	eventually(t, "nothing of it is in the tree", func() bool {
		s, err := d.client.Status(t.Context())
		return err == nil && s.Living <= before.Living+5
	})
	s, err := d.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d leaks ended beside %d forks; %d records lost", leaks, s.Events[wire.TypeFork], s.Refused)
	if leaks == 0 {
		t.Error("no leak was ended")
	}
}

// newGroup makes a control group with room for the bomb.
func newGroup(t *testing.T) *os.File {
	t.Helper()
	const root = "/sys/fs/cgroup"
	if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+pids"), 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "bomb")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "pids.max"), fmt.Append(nil, bombTasks), 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		endGroup(t, f)
		f.Close()
	})
	return f
}

// endGroup kills what is in a group until nothing is. No fork is possible meanwhile.
func endGroup(t *testing.T, group *os.File) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(group.Name(), "pids.max"), []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bomb has ended", func() bool {
		b, err := os.ReadFile(filepath.Join(group.Name(), "cgroup.procs"))
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatal(err)
		}
		for word := range strings.FieldsSeq(string(b)) {
			var pid int
			if _, err := fmt.Sscan(word, &pid); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		return len(b) == 0
	})
}

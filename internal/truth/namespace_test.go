// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// namespaced tells a copy of the test binary that it is the init of its own pid
// namespace.
const namespaced = "TRUTH_NAMESPACED"

func TestMain(m *testing.M) {
	if os.Getenv(namespaced) != "" {
		if err := mountProc(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func mountProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// inNamespace runs the named test in a pid namespace of its own, where every process is
// the test's: there it returns true, here it returns false when that is done.
func inNamespace(t *testing.T, name string) bool {
	t.Helper()
	if os.Getenv(namespaced) != "" {
		return true
	}
	proctest.NeedRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+name+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), namespaced+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a pid namespace: %v\n%s", err, out)
	}
	return false
}

// TestTruthInNamespace runs the whole table with a reader that lives in a pid namespace.
func TestTruthInNamespace(t *testing.T) {
	if os.Getenv(namespaced) == "" {
		inNamespace(t, "TestTruth")
	}
}

// TestReusedPID leaks twice from one pid, ten times. Only a namespace of one's own lets
// a pid be chosen.
func TestReusedPID(t *testing.T) {
	if !inNamespace(t, t.Name()) {
		return
	}
	w := newWorld(t, probe.Options{})
	f := w.start("reuse_pid")
	f.await(map[string]int{"done": 1, "orphan": 20})
	f.settle()
	leakers := map[int32]map[uint64]int{}
	for _, a := range f.orphans {
		o := a.orphan
		if !o.Direct || o.Leaker.End.Status.Signal() != unix.SIGKILL || o.Leaker.ID.Start >= a.id.Start {
			t.Errorf("%v: %+v", a.id, o)
		}
		if leakers[o.Leaker.ID.PID] == nil {
			leakers[o.Leaker.ID.PID] = map[uint64]int{}
		}
		leakers[o.Leaker.ID.PID][o.Leaker.ID.Start]++
	}
	reused := 0
	for _, starts := range leakers {
		if len(starts) > 1 {
			reused++
		}
		for start, n := range starts {
			if n != 1 {
				t.Errorf("the process that started at %d leaked %d times", start, n)
			}
		}
	}
	if len(f.orphans) != 20 || reused == 0 {
		t.Errorf("%d orphans, %d pids leaked twice", len(f.orphans), reused)
	}
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// naming is a controller, or what stands in its place, of the hierarchy by whose paths
// processes are told to stand somewhere.
func naming() string {
	if _, err := os.Stat("/sys/fs/cgroup/systemd/cgroup.procs"); err == nil {
		return "name=systemd"
	}
	return "pids"
}

// TestOrphansGroup moves a process between two of its forks and one of its children
// after that, which is not to be learned from anything that they execute, and wants each
// orphan told to be where it is. The families come twice: of the second more is known.
func TestOrphansGroup(t *testing.T) {
	d := startDaemon(t, ruleless)
	for _, round := range []string{"first", "again"} {
		t.Run(round, func(t *testing.T) {
			before, after := newCgroup(t, naming()), newCgroup(t, naming())
			// A subshell executes nothing: the program is its parent's.
			f := startShell(t, []string{"D=" + t.TempDir(), "BEFORE=" + before.procs(), "AFTER=" + after.procs()}, `
				sub() { read -r pid rest </proc/self/stat; echo $1 $pid >&3; read line <$D/never; }
				mkfifo $D/never
				echo 0 >$BEFORE
				(sub before) &
				echo 0 >$AFTER
				(sub after) &
				(echo 0 >$BEFORE; sub back) &
				wait`)
			want := map[string]*cgroup{"before": before, "after": after, "back": before}
			pids := make(map[string]int)
			for role := range want {
				pids[role] = f.await(role, 1)[0].pid
			}
			f.killMain()
			for role, g := range want {
				d.orphan(pids[role])
				e := d.find(func(e *wire.Event) bool { return e.Type == wire.TypeOrphan && int(e.Process.PID) == pids[role] })
				if got := filepath.Base(e.Process.Cgroup); got != filepath.Base(g.dir) {
					t.Errorf("%s: in %s, want %s", role, e.Process.Cgroup, g.dir)
				}
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestEscapeMatrix lets descendants try every way out, and wants none left under
// any ending. The proof is the lifeline's end of file.
func TestEscapeMatrix(t *testing.T) {
	endings := []struct {
		name string
		sig  syscall.Signal // 0: CMD ends by itself
		code int
	}{
		{"TERM", unix.SIGTERM, 128 + 15},
		{"INT", unix.SIGINT, 128 + 2},
		{"HUP", unix.SIGHUP, 128 + 1},
		{"QUIT", unix.SIGQUIT, 2}, // Go's own answer to QUIT
		{"CMD ends", 0, 7},
	}
	for _, withCgroup := range []bool{false, true} {
		for _, end := range endings {
			name := end.name
			if withCgroup {
				name += " with a cgroup"
			}
			t.Run(name, func(t *testing.T) {
				argv, want := tester(t, "tree"), slices.Clone(kinds)
				if withCgroup {
					proctest.NeedRoot(t)
					argv, want = append(argv, otherCgroup(t)), append(want, "another cgroup")
				}
				s := start(t, options{Argv: argv, Grace: 300 * time.Millisecond, Cgroup: withCgroup})
				s.life.expect(t, want...)
				if end.sig != 0 {
					s.signal(t, end.sig)
				} else {
					s.stdin.Close()
				}
				s.wantEnd(t, end.code)
				if left, err := descend.List(os.Getpid()); err != nil || len(left) > 0 {
					t.Errorf("left: %v, %v", left, err)
				}
			})
		}
	}
}

// TestKilledWithoutDaemon measures what survives when the supervisor itself is
// killed and no daemon is there to finish: everything that does not notice by
// itself. docs/prevention.md says so.
func TestKilledWithoutDaemon(t *testing.T) {
	s := start(t, options{Argv: tester(t, "tree"), Grace: time.Second})
	s.life.expect(t, kinds...)
	s.signal(t, unix.SIGKILL)
	if code := s.code(t); code != 128+9 {
		t.Fatalf("exit code %d", code)
	}
	procs, err := descend.List(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	alive := map[string]int{}
	for _, p := range procs {
		if args, _ := descend.Cmdline(p.PID); len(args) > 3 {
			alive[args[3]]++
		}
	}
	t.Logf("%d processes survive a SIGKILL of supervise without a daemon: %v", len(procs), alive)
	for _, kind := range kinds {
		if kind != "forking chain" && alive[kind] == 0 {
			t.Errorf("%s is gone: the documentation says that it survives", kind)
		}
	}
}

// otherCgroup makes a cgroup v2 to depart to.
func otherCgroup(t *testing.T) string {
	t.Helper()
	own, err := ownCgroup()
	if err != nil {
		t.Fatalf("no cgroup v2: %v", err)
	}
	dir, err := os.MkdirTemp(own, "abot-trace-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		proctest.EndDescendants(t)
		proctest.Eventually(t, "the cgroup can be removed", func() bool { return os.Remove(dir) == nil })
	})
	return filepath.Clean(dir)
}

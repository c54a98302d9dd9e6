// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// A cgroup is one of the test's own, which goes with the test.
type cgroup struct {
	t   testing.TB
	dir string
	v2  bool
}

// newCgroup makes one that has the controller, in whichever hierarchy has it.
func newCgroup(t testing.TB, controller string) *cgroup {
	t.Helper()
	root, v2 := hierarchy(t, controller)
	if v2 {
		// Where it is enabled already this changes nothing, and where it cannot be the
		// limit's file will be missing.
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0)
	}
	dir, err := os.MkdirTemp(root, "abot-trace-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	g := &cgroup{t, dir, v2}
	t.Cleanup(func() {
		proctest.Eventually(t, "the cgroup is empty", func() bool {
			for _, pid := range g.members() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			return unix.Rmdir(dir) == nil
		})
	})
	return g
}

// hierarchy finds where the controller is. Paths may lie below other mounts that look
// like them, so that only the mounts themselves are asked.
func hierarchy(t testing.TB, controller string) (root string, v2 bool) {
	t.Helper()
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer mounts.Close()
	for s := bufio.NewScanner(mounts); s.Scan(); {
		place, kind, ok := strings.Cut(s.Text(), " - ")
		fields, about := strings.Fields(place), strings.Fields(kind)
		if !ok || len(fields) < 5 || len(about) < 3 {
			continue
		}
		switch about[0] {
		case "cgroup":
			if slices.Contains(strings.Split(about[2], ","), controller) {
				return fields[4], false
			}
		case "cgroup2":
			list, _ := os.ReadFile(filepath.Join(fields[4], "cgroup.controllers"))
			if slices.Contains(strings.Fields(string(list)), controller) {
				root, v2 = fields[4], true
			}
		}
	}
	if root == "" {
		t.Fatalf("no cgroup hierarchy has the controller %s", controller)
	}
	return root, v2
}

func (g *cgroup) procs() string { return filepath.Join(g.dir, "cgroup.procs") }

// enter is a command that runs the one behind it in the group.
func (g *cgroup) enter() []string {
	return []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, g.procs()}
}

// members are the pids of its processes.
func (g *cgroup) members() (pids []int) {
	text, _ := os.ReadFile(g.procs())
	for _, word := range strings.Fields(string(text)) {
		// 0 is one of another pid namespace.
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (g *cgroup) set(file string, value any) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, file), []byte(fmt.Sprint(value)), 0); err != nil {
		g.t.Fatal(err)
	}
}

// memory names the files of its use of memory and of the limit on that, and what is no
// limit.
func (g *cgroup) memory() (use, limit, none string) {
	if g.v2 {
		return "memory.current", "memory.max", "max"
	}
	return "memory.usage_in_bytes", "memory.limit_in_bytes", "-1"
}

func (g *cgroup) read(file string) string {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (g *cgroup) get(file string) int {
	g.t.Helper()
	n, err := strconv.Atoi(g.read(file))
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

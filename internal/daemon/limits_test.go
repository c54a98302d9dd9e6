// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemoryLimit(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  uint64
	}{
		{"no cgroups", nil, 0},
		{"version 2", map[string]string{
			"proc/self/cgroup":                                         "0::/system.slice/abot-trace.service\n",
			"sys/fs/cgroup/system.slice/memory.max":                    "max\n",
			"sys/fs/cgroup/system.slice/abot-trace.service/memory.max": "1073741824\n",
		}, 1 << 30},
		{"the parent allows less", map[string]string{
			"proc/self/cgroup":             "0::/a/b\n",
			"sys/fs/cgroup/a/memory.max":   "1000000\n",
			"sys/fs/cgroup/a/b/memory.max": "2000000\n",
		}, 1000000},
		{"version 2, none", map[string]string{
			"proc/self/cgroup":           "0::/a\n",
			"sys/fs/cgroup/a/memory.max": "max\n",
		}, 0},
		{"version 1", map[string]string{
			"proc/self/cgroup":                             "8:pids:/a\n4:memory:/a\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "536870912\n",
		}, 512 << 20},
		{"version 1, none", map[string]string{
			"proc/self/cgroup": "4:memory:/a\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range test.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := memoryLimit(root); got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}

func TestHeapLimit(t *testing.T) {
	for limit, want := range map[uint64]int64{1 << 30: 1<<30/10*9 - 16<<20, 20 << 20: 10 << 20, 1 << 20: 1 << 19} {
		if got := heapLimit(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
}

// TestReserveThreads wants the threads made, and kept.
func TestReserveThreads(t *testing.T) {
	threads := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := threads()
	reserveThreads(before + 40)
	if after := threads(); after < before+40 {
		t.Errorf("%d threads, want %d", after, before+40)
	}
}

// TestReserveDescriptors wants room made, as much as the limit allows, and nothing left open.
func TestReserveDescriptors(t *testing.T) {
	size := func() (n int) {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "FDSize:")
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, n := range []int{2048, 1 << 30} {
		want := n
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if limit.Cur < uint64(n) {
			want = int(limit.Cur)
		}
		if want > 1<<16 {
			continue // a limit that would take more memory than a test should
		}
		if err := reserveDescriptors(n); err != nil {
			t.Errorf("%d: %v", n, err)
		}
		if got := size(); got < want {
			t.Errorf("%d: room for %d, want %d", n, got, want)
		}
		if _, err := unix.FcntlInt(uintptr(want-1), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("%d: left open, %v", n, err)
		}
	}
}

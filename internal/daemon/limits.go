// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/probe"
)

// spareThreads is how many threads are made in advance: as many as can block at once, in
// 64 reads of procfs and in 64 kills, and some for all else. The runtime dies when it
// needs a thread and gets none, and when the pids run out is just when this program has
// to go on.
const spareThreads = 144

// reserveThreads makes threads, which the runtime keeps for later.
func reserveThreads(n int) {
	var all, over sync.WaitGroup
	all.Add(n)
	for range n {
		over.Go(func() {
			// A locked goroutine that waits keeps its thread from all others.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait()
		})
	}
	over.Wait()
}

// spareDescriptors is how many descriptors the kernel is asked to make room for in advance.
// When a process has more than its table holds, the kernel makes a larger one and has all
// threads wait until no processor can be reading the old one (synchronize_rcu in
// fs/file.c): that took 6 to 20 ms, in the middle of a kill.
const spareDescriptors = 4096

// reserveDescriptors makes that room, which stays. Where the limit on open files is lower,
// it makes as much as there can be.
func reserveDescriptors(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, int(min(uint64(n), limit.Cur))-1)
	if err != nil {
		return fmt.Errorf("room for descriptors: %w", err)
	}
	return unix.Close(fd)
}

// limitMemory keeps the garbage below what the control groups allow. An operator's
// GOMEMLIMIT stands.
func (d *daemon) limitMemory() {
	limit := memoryLimit("")
	if limit == 0 || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	heap := heapLimit(limit)
	debug.SetMemoryLimit(heap)
	d.Log.Info("memory is limited", "bytes", limit, "heap", heap)
}

// heapLimit leaves room for the ring, and a tenth for the kernel and for files.
func heapLimit(limit uint64) int64 {
	most := limit / 10 * 9
	return int64(max(most-min(most, probe.DefaultRingBytes), limit/2))
}

// memoryLimit is the least that a control group of this process allows it, in bytes; 0
// is no limit. root is where /proc and /sys are.
func memoryLimit(root string) uint64 {
	groups, err := os.ReadFile(root + "/proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := uint64(math.MaxUint64)
	for s := bufio.NewScanner(bytes.NewReader(groups)); s.Scan(); {
		// 4:memory:/path, or 0::/path of version 2 (cgroups(7)).
		f := strings.SplitN(s.Text(), ":", 3)
		if len(f) != 3 {
			continue
		}
		mount, file := root+"/sys/fs/cgroup", "memory.max"
		if f[1] != "" {
			if !slices.Contains(strings.Split(f[1], ","), "memory") {
				continue
			}
			mount, file = mount+"/memory", "memory.limit_in_bytes"
		}
		for path := filepath.Join("/", f[2]); ; path = filepath.Dir(path) {
			least = min(least, readLimit(filepath.Join(mount, path, file)))
			if path == "/" {
				break
			}
		}
	}
	if least > math.MaxInt64/2 {
		return 0 // version 1 has a number for none, too
	}
	return least
}

// readLimit reads the file of a limit; what is none, or cannot be read, is the greatest.
func readLimit(path string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return math.MaxUint64 // "max"
	}
	return n
}

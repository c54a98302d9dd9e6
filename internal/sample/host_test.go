// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shirou/gopsutil/v3/cpu"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

// meminfo reads one figure of /proc/meminfo, in bytes.
func meminfo(t *testing.T, name string) uint64 {
	t.Helper()
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, _ := strings.Cut(lines.Text(), ":"); key == name {
			var n uint64
			if _, err := fmt.Sscanf(value, "%d kB", &n); err != nil {
				t.Fatalf("meminfo: %q", lines.Text())
			}
			return n << 10
		}
	}
	t.Fatalf("meminfo has no %s", name)
	return 0
}

func near(a, b uint64, within uint64) bool { return max(a, b)-min(a, b) <= within }

func TestHostAgainstProc(t *testing.T) {
	h := NewHostReader("").Read()
	if h.Memory == nil || h.Load == nil {
		t.Fatalf("memory %v, load %v, errors %v", h.Memory, h.Load, h.Errors)
	}
	if got, want := h.Memory.Total, meminfo(t, "MemTotal"); got != want {
		t.Errorf("memory total %d, /proc says %d", got, want)
	}
	// Other programs run: within 5 % of all memory.
	if got, want := h.Memory.Available, meminfo(t, "MemAvailable"); !near(got, want, h.Memory.Total/20) {
		t.Errorf("memory available %d, /proc says %d", got, want)
	}
	if total := meminfo(t, "SwapTotal"); total == 0 && h.Swap != nil || total > 0 && (h.Swap == nil || h.Swap.Total != total) {
		t.Errorf("swap %+v, /proc says %d in total", h.Swap, total)
	}
	if h.CPU != nil {
		t.Errorf("CPU share known at the first look: %+v", h.CPU)
	}
}

func TestDisksAgainstStatfs(t *testing.T) {
	h := NewHostReader("").Read()
	for _, d := range h.Disks {
		if d.Err != nil {
			t.Errorf("%s: %v", d.Mount, d.Err)
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs(d.Mount, &st); err != nil {
			continue // visible to init alone
		}
		if total := st.Blocks * uint64(st.Bsize); d.Total != total {
			t.Errorf("%s: total %d, statfs says %d", d.Mount, d.Total, total)
		}
		if used := (st.Blocks - st.Bfree) * uint64(st.Bsize); !near(d.Used, used, max(64<<20, d.Total/20)) {
			t.Errorf("%s: used %d, statfs says %d", d.Mount, d.Used, used)
		}
	}
}

// CPU is checked on prepared counters, where the answer is known exactly.
func TestBusyPercent(t *testing.T) {
	tests := []struct {
		name        string
		before, now cpu.TimesStat
		want        float64
	}{
		{"idle", cpu.TimesStat{Idle: 10}, cpu.TimesStat{Idle: 20}, 0},
		{"half", cpu.TimesStat{}, cpu.TimesStat{User: 3, System: 2, Idle: 5}, 50},
		{"stolen is busy, waiting for disks is idle", cpu.TimesStat{}, cpu.TimesStat{Steal: 1, Iowait: 3}, 25},
		{"guest is part of user", cpu.TimesStat{}, cpu.TimesStat{User: 5, Guest: 5, Idle: 5}, 50},
		{"idle ran backwards", cpu.TimesStat{Idle: 20}, cpu.TimesStat{Idle: 19, User: 1}, 100},
		{"nothing passed", cpu.TimesStat{}, cpu.TimesStat{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := busyPercent(tt.before, tt.now); math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestHostFromFakeProcfs(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("meminfo", "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 250 kB\nCached: 900 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\n")
	write("stat", "cpu  100 0 0 100 0 0 0 0 0 0\n")
	write("loadavg", "0.50 1.25 2.00 1/100 1234\n")
	write("pressure/memory", "some avg10=1.50 avg60=2.00 avg300=0.25 total=1000\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=500\n")
	r := NewHostReader(root)
	r.Read()
	write("stat", "cpu  130 0 0 110 0 0 0 0 0 0\n")
	h := r.Read()
	if h.Memory == nil || h.Memory.Percent() != 75 {
		t.Errorf("memory %+v, want 75 %% by MemAvailable", h.Memory)
	}
	if h.Swap == nil || h.Swap.Percent() != 60 {
		t.Errorf("swap %+v, want 60 %%", h.Swap)
	}
	if h.CPU == nil || math.Abs(h.CPU.Percent-75) > 1e-9 || h.CPU.Cores != runtime.NumCPU() {
		t.Errorf("cpu %+v, want 75 %%", h.CPU)
	}
	if h.Load == nil || *h.Load != [3]float64{0.5, 1.25, 2} {
		t.Errorf("load %v", h.Load)
	}
	want := Pressure{Stall{1.5, 2, 0.25, time.Millisecond}, Stall{0.5, 0, 0, 500 * time.Microsecond}}
	if got := h.Pressure["memory"]; got != want || len(h.Pressure) != 1 {
		t.Errorf("pressure %+v, want memory alone with %+v", h.Pressure, want)
	}
	if len(h.Errors) != 1 || !strings.Contains(h.Errors[0].Error(), "disks") {
		t.Errorf("errors %v, want one about the disks", h.Errors)
	}
}

func TestWorthWatching(t *testing.T) {
	const info = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 8:1 /var /srv rw - ext4 /dev/sda1 rw
24 22 0:20 / /proc rw - proc proc rw
25 22 0:21 / /run ro,nosuid - tmpfs tmpfs rw,size=10k
26 22 7:0 / /snap/core ro - squashfs /dev/loop0 ro
27 22 7:1 / /mnt/image rw - ext4 /dev/loop1 rw
28 22 0:30 / /mnt/a\040b rw - xfs /dev/sdb1 rw
29 22 0:31 / /media/cd ro - ext4 /dev/sdc1 ro
30 22 0:32 / /net rw - autofs systemd-1 rw
31 30 0:33 / /net rw - nfs4 server:/export rw
32 22 0:34 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
33 22 8:2 / /boot rw - vfat /dev/sda2 rw
34 33 0:35 / /boot rw - autofs systemd-1 rw
35 22 0:36 / /sys/fs/cgroup rw - tmpfs tmpfs rw
`
	mounts, err := procfs.ParseMounts([]byte(info))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range worthWatching(mounts) {
		got = append(got, m.Point)
	}
	// /boot is hidden by what is mounted over it.
	want := []string{"/", "/net", "/run", "/mnt/a b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := procfs.ParseMounts([]byte("garbage\n")); err == nil {
		t.Error("no error for a malformed line")
	}
}

// A file system that does not answer costs one goroutine, however often it is asked.
func TestStuckFileSystem(t *testing.T) {
	r := diskReader{pending: map[string]chan statfsResult{"/nfs": make(chan statfsResult, 1)}}
	stuck := r.pending["/nfs"]
	r.start("/nfs", "/")
	if r.pending["/nfs"] != stuck {
		t.Error("a second question was asked while the first is open")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if res := r.wait(ended, "/nfs"); !errors.Is(res.err, errNoAnswer) {
		t.Errorf("error %v, want %v", res.err, errNoAnswer)
	}
	stuck <- statfsResult{err: errors.New("stale")}
	if res := r.wait(ended, "/nfs"); res.err == nil || r.pending["/nfs"] != nil {
		t.Errorf("the late answer was not taken: %+v, pending %v", res, r.pending)
	}
}

func TestParsePressure(t *testing.T) {
	if _, err := parsePressure("some avg10=x"); err == nil {
		t.Error("no error for a malformed line")
	}
	got, err := readPressure(t.TempDir())
	if err != nil || len(got) != 0 {
		t.Errorf("without PSI: %v, %v, want nothing and no error", got, err)
	}
}

// More spinning goroutines than cores make tasks wait for a CPU, and the kernel says so.
func TestWatchPressure(t *testing.T) {
	if _, err := os.Stat("/proc/pressure/cpu"); err != nil {
		err := WatchPressure(t.Context(), DefaultTriggers, func(string) {})
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without PSI: error %v, want one that says so", err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	for range 4 * runtime.NumCPU() {
		go func() {
			runtime.LockOSThread()
			for load.Err() == nil {
				_ = fmt.Sprint(load)
			}
		}()
	}
	// Goroutines share GOMAXPROCS threads; waiting needs more runnable threads.
	previous := runtime.GOMAXPROCS(4 * runtime.NumCPU())
	defer runtime.GOMAXPROCS(previous)
	var woken string
	trigger := Trigger{Resource: "cpu", Stall: 100 * time.Millisecond, Window: 2 * time.Second}
	err := WatchPressure(ctx, []Trigger{trigger}, func(resource string) { woken = resource; cancel() })
	if err != nil {
		t.Fatal(err)
	}
	if woken != "cpu" {
		t.Errorf("woken by %q, want cpu", woken)
	}
}

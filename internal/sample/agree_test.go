// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v3/process"
	"golang.org/x/sys/unix"
)

// A pass over many processes agrees with gopsutil about each. ABOT_TEST_CROWD sets
// another number than 100.
func TestPassAgreesWithGopsutil(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("ABOT_TEST_CROWD"))
	if err != nil {
		n = 100
	}
	shell := int32(crowd(t, n))
	pass, err := NewSampler(Procfs{}, nil).Pass()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for u := range pass.All() {
		if u.Parent.PID != shell {
			continue
		}
		seen++
		p := &process.Process{Pid: u.ID.PID}
		memory, err := p.MemoryInfo()
		if err != nil {
			t.Fatal(err)
		}
		// It sleeps; but a kernel may count in batches for each CPU, and a program
		// that has only just begun may still be loading.
		if !near(u.RSS, memory.RSS, 2<<20) || u.Swap != memory.Swap {
			t.Errorf("%v: RSS %d, swap %d; gopsutil says %d, %d", u.ID, u.RSS, u.Swap, memory.RSS, memory.Swap)
		}
		if threads, err := p.NumThreads(); err != nil || int(threads) != u.Threads {
			t.Errorf("%v: %d threads, gopsutil says %d, %v", u.ID, u.Threads, threads, err)
		}
		created, err := p.CreateTime()
		if err != nil {
			t.Fatal(err)
		}
		// By way of the boot time, which is known to a second.
		started := time.Now().Add(time.Duration(u.ID.Start) - readClock(unix.CLOCK_BOOTTIME))
		if diff := started.Sub(time.UnixMilli(created)).Abs(); diff > 2*time.Second {
			t.Errorf("%v: started %v, gopsutil says %v apart", u.ID, started, diff)
		}
	}
	if seen != n {
		t.Errorf("%d of %d processes seen", seen, n)
	}
}

// The CPU time of this process lies between what the kernel says before and after.
func TestCPUAgreesWithTheKernel(t *testing.T) {
	used := func() uint64 {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			t.Fatal(err)
		}
		return uint64(r.Utime.Nano() + r.Stime.Nano())
	}
	for x, end := 0, used()+50e6; used() < end; x++ {
	}
	before := used()
	pass, err := NewSampler(Procfs{}, nil).Pass()
	if err != nil {
		t.Fatal(err)
	}
	after := used()
	for u := range pass.All() {
		const tick = 1e7 // ns
		// procfs rounds user and system time down to a tick each.
		if int(u.ID.PID) == os.Getpid() && (u.CPU+2*tick < before || u.CPU > after+2*tick) {
			t.Errorf("CPU time %d, the kernel says %d to %d", u.CPU, before, after)
		}
	}
}

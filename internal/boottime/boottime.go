// SPDX-License-Identifier: Apache-2.0

// Package boottime reads the clock of every event and age.
package boottime

import (
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rawsys"
)

// Now is CLOCK_BOOTTIME in ns, as the initial time namespace has it. It goes on during suspend and never steps
// (clock_gettime(2)); the kernel's programs stamp by the same clock. From any goroutine.
func Now() uint64 {
	ts := rawsys.ClockGettime(unix.CLOCK_BOOTTIME)
	return uint64(ts.Nano() - shift())
}

// Earlier returns the earlier of two times of which 0 is never.
func Earlier(a, b uint64) uint64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Suspended is how far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, in ns: how long the host
// has been suspended.
func Suspended() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // it cannot fail
	return Now() - uint64(ts.Nano())
}

// Offset is the wall clock at boot in ns, as far as the wall clock is right now. It is for
// display alone: the wall clock steps.
func Offset() (offset int64) {
	ns, wall := Both(Now, time.Now)
	return wall.UnixNano() - int64(ns)
}

// Both reads two clocks at one instant: whoever is interrupted between them reads them again.
func Both(now func() uint64, wall func() time.Time) (ns uint64, at time.Time) {
	const together, tries = uint64(5 * time.Microsecond), 8
	least := uint64(math.MaxUint64)
	for range tries {
		before, t := now(), wall()
		if took := now() - before; took < least {
			least, ns, at = took, before+took/2, t
		}
		if least <= together {
			break
		}
	}
	return ns, at
}

// Wall turns an instant of CLOCK_BOOTTIME, in ns, into wall time by an Offset.
func Wall(offset int64, ns uint64) time.Time { return time.Unix(0, offset+int64(ns)) }

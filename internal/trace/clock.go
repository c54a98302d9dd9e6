// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"golang.org/x/sys/unix"
)

// BootNow is CLOCK_BOOTTIME in ns: the clock of every event and age. It goes on
// during suspend and never steps.
func BootNow() uint64 {
	var ts unix.Timespec
	// It cannot fail with a valid clock and pointer (clock_gettime(2)).
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return uint64(ts.Nano())
}

// bootOffset is the wall clock at boot, as far as the wall clock is right now. It is
// for display alone: the wall clock steps.
func bootOffset() int64 { return time.Now().UnixNano() - int64(BootNow()) }

// wallTime turns a CLOCK_BOOTTIME instant into wall time.
func wallTime(offset int64, ns uint64) time.Time { return time.Unix(0, offset+int64(ns)) }

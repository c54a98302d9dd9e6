// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
)

// BootNow is CLOCK_BOOTTIME in ns: the clock of every event and age.
func BootNow() uint64 { return boottime.Now() }

// bootOffset is the wall clock at boot, as far as the wall clock is right now. It is
// for display alone: the wall clock steps.
func bootOffset() int64 { return time.Now().UnixNano() - int64(BootNow()) }

// wallTime turns a CLOCK_BOOTTIME instant into wall time.
func wallTime(offset int64, ns uint64) time.Time { return time.Unix(0, offset+int64(ns)) }

// SPDX-License-Identifier: Apache-2.0

package boottime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A time namespace (time_namespaces(7)) shifts what its processes read of the clock, and
// what they see of starts in procfs, by an offset that is fixed once somebody lives in it.
// The kernel's programs stamp without it.

// Ticks turns a start in ns of the clock of events into the ticks of 10 ms that procfs shows
// us in /proc/PID/stat.
func Ticks(start uint64) uint64 { return (start + uint64(shift())) / nsPerTick }

// FromTicks is the reverse, to the tick.
func FromTicks(ticks uint64) uint64 { return ticks*nsPerTick - uint64(shift()) }

// nsPerTick is the unit of starts in procfs: USER_HZ is 100 on every architecture that Go
// runs Linux on.
const nsPerTick = 10_000_000

// Check reports why this process cannot tell the time of events, if it cannot: the offset of
// its time namespace is not known.
func Check() error {
	_, err := readOnce()
	return err
}

// shift is how far our clock is ahead of that of events, in ns; negative where it is behind.
func shift() int64 {
	ns, _ := readOnce()
	return ns
}

var readOnce = sync.OnceValues(func() (int64, error) { return readShift("/proc/self") })

// readShift reads the offset from a process's directory in procfs.
func readShift(dir string) (int64, error) {
	b, err := os.ReadFile(dir + "/timens_offsets")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // a kernel without time namespaces
	}
	if err != nil {
		return 0, fmt.Errorf("time namespace: %w", err)
	}
	offset, err := parseOffset(string(b))
	if err != nil {
		return 0, fmt.Errorf("time namespace: %w", err)
	}
	// The file speaks of the namespace that a process's children are made in. Whoever has
	// unshared, and neither forked nor executed since, lives in another one itself.
	own, ownErr := os.Readlink(dir + "/ns/time")
	children, childrenErr := os.Readlink(dir + "/ns/time_for_children")
	switch {
	case ownErr != nil || childrenErr != nil:
		return 0, fmt.Errorf("time namespace: %w", errors.Join(ownErr, childrenErr))
	case own == children:
		return offset, nil
	case own == initialNamespace:
		return 0, nil
	default:
		return 0, errors.New("time namespace: its offset is not known to a process that has unshared from it")
	}
}

// initialNamespace has a fixed inode (PROC_TIME_INIT_INO, include/linux/proc_ns.h).
const initialNamespace = "time:[4026531834]"

// parseOffset finds the line of CLOCK_BOOTTIME: its seconds and nanoseconds.
func parseOffset(text string) (int64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "boottime" && f[0] != "7" {
			continue
		}
		seconds, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("offset: %w", err)
		}
		nanoseconds, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("offset: %w", err)
		}
		return seconds*int64(time.Second) + nanoseconds, nil
	}
	return 0, errors.New("no offset of the boot clock")
}

// SPDX-License-Identifier: Apache-2.0

// Package render draws what the JSON contract says for people: trees, tables, event
// lines. All text that processes chose is escaped here; nothing else in the program
// prints it to a terminal.
package render

import (
	"fmt"
	"strconv"
	"time"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Duration formats an age in its two largest units: "3d4h", "2m5s", "350ms".
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return pair(d, time.Minute, "m", time.Second, "s")
	case d < 24*time.Hour:
		return pair(d, time.Hour, "h", time.Minute, "m")
	default:
		return pair(d, 24*time.Hour, "d", time.Hour, "h")
	}
}

func pair(d, big time.Duration, bigUnit string, small time.Duration, smallUnit string) string {
	s := strconv.Itoa(int(d/big)) + bigUnit
	if rest := int(d % big / small); rest > 0 {
		s += strconv.Itoa(rest) + smallUnit
	}
	return s
}

// Bytes formats a size in binary units: "512 B", "12.3 MiB".
func Bytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	v := float64(n)
	unit := ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if v /= 1024; v < 1024 {
			break
		}
	}
	if v < 10 {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// Memory formats what a process holds, swap included; "-" where it is not known.
func Memory(rss, swap *uint64) string {
	if rss == nil {
		return "-"
	}
	sum := *rss
	if swap != nil {
		sum += *swap
	}
	return Bytes(sum)
}

// Command is the process's command line, or its name where there is none.
func Command(p *wire.Process) string {
	if len(p.Cmdline) > 0 {
		s := safetext.Args(p.Cmdline)
		if p.Truncated {
			s += " ..."
		}
		return s
	}
	if p.Kthread {
		return "[" + safetext.Field(p.Comm) + "]"
	}
	return safetext.Field(p.Comm)
}

// Exit says how a process ended: "exit 3", "SIGKILL, from pid 99 (bash)".
func Exit(x *wire.Exit) string {
	switch {
	case x == nil:
		return "end not seen"
	case x.Code != nil:
		return "exit " + strconv.Itoa(*x.Code)
	}
	s := x.Signal
	if x.Core {
		s += ", core dumped"
	}
	if x.OOM {
		s += ", out of memory"
	}
	if x.KilledBy != nil {
		s += fmt.Sprintf(", from pid %d (%s)", x.KilledBy.PID, safetext.Field(x.KilledBy.Comm))
	}
	return s
}

// Since is the time from then to now, as Duration.
func Since(now time.Time, then *time.Time) string {
	if then == nil {
		return "?"
	}
	return Duration(now.Sub(*then))
}

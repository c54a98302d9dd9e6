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
func Duration(d time.Duration) string { return string(appendDuration(nil, d)) }

func appendDuration(b []byte, d time.Duration) []byte {
	switch {
	case d < 0:
		return append(b, "0s"...)
	case d < time.Second:
		return append(strconv.AppendInt(b, d.Milliseconds(), 10), "ms"...)
	case d < time.Minute:
		return append(strconv.AppendInt(b, int64(d/time.Second), 10), 's')
	case d < time.Hour:
		return appendPair(b, d, time.Minute, 'm', time.Second, 's')
	case d < 24*time.Hour:
		return appendPair(b, d, time.Hour, 'h', time.Minute, 'm')
	default:
		return appendPair(b, d, 24*time.Hour, 'd', time.Hour, 'h')
	}
}

func appendPair(b []byte, d, big time.Duration, bigUnit byte, small time.Duration, smallUnit byte) []byte {
	b = append(strconv.AppendInt(b, int64(d/big), 10), bigUnit)
	if rest := d % big / small; rest > 0 {
		b = append(strconv.AppendInt(b, int64(rest), 10), smallUnit)
	}
	return b
}

// Bytes formats a size in binary units: "512 B", "12.3 MiB".
func Bytes(n uint64) string { return string(appendBytes(nil, n)) }

func appendBytes(b []byte, n uint64) []byte {
	if n < 1024 {
		return append(strconv.AppendUint(b, n, 10), " B"...)
	}
	v := float64(n)
	unit := ""
	for _, unit = range []string{" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"} {
		if v /= 1024; v < 1024 {
			break
		}
	}
	decimals := 0
	if v < 10 {
		decimals = 1
	}
	return append(strconv.AppendFloat(b, v, 'f', decimals, 64), unit...)
}

// Memory formats what a process holds, swap included; "-" where it is not known.
func Memory(rss, swap *uint64) string {
	if rss == nil {
		return "-"
	}
	return Bytes(*rss + orNone(swap))
}

func orNone(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}

// Command is the process's command line, or its name where there is none.
func Command(p *wire.Process) string { return string(appendCommand(nil, p)) }

func appendCommand(b []byte, p *wire.Process) []byte {
	if len(p.Cmdline) > 0 {
		b = safetext.AppendArgs(b, p.Cmdline)
		if p.Truncated {
			b = append(b, " ..."...)
		}
		return b
	}
	if p.Kthread {
		b = append(b, '[')
		return append(append(b, safetext.Name(p.Comm)...), ']')
	}
	return append(b, safetext.Name(p.Comm)...)
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
		s += fmt.Sprintf(", from pid %d (%s)", x.KilledBy.PID, safetext.Name(x.KilledBy.Comm))
	}
	return s
}

// Since is the time from then to now, as Duration.
func Since(now time.Time, then *time.Time) string { return string(appendSince(nil, now, then)) }

func appendSince(b []byte, now time.Time, then *time.Time) []byte {
	if then == nil {
		return append(b, '?')
	}
	return appendDuration(b, now.Sub(*then))
}

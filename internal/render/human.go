// SPDX-License-Identifier: Apache-2.0

// Package render draws what the JSON contract says for people: trees, tables, event
// lines. All text that processes chose is escaped here; nothing else in the program
// prints it to a terminal.
package render

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Bytes formats a size for a column: "512 B", "1.5 GiB", "12 MiB".
func Bytes(n uint64) string { return string(quantity.AppendShortSize(nil, n)) }

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

// Exit says how the process with that pid and start ended: "exit 3", "SIGKILL, from pid 99
// (bash)", "SIGABRT, by itself".
func Exit(x *wire.Exit, pid int32, startNS uint64) string {
	switch {
	case x == nil:
		return "end not seen"
	case x.Code != nil:
		return "exit " + strconv.Itoa(*x.Code)
	}
	s := safetext.Terminal(x.Signal)
	if x.Core {
		s += ", core dumped"
	}
	if x.OOM {
		s += ", out of memory"
	}
	switch by := x.KilledBy; {
	case by == nil:
	case by.PID == pid && by.StartNS == startNS:
		s += ", by itself"
	default:
		s += fmt.Sprintf(", from pid %d (%s)", by.PID, safetext.Name(by.Comm))
	}
	return s
}

// Since is the time from then to now, in its two largest units.
func Since(now time.Time, then *time.Time) string { return string(appendSince(nil, now, then)) }

func appendSince(b []byte, now time.Time, then *time.Time) []byte {
	if then == nil {
		return append(b, '?')
	}
	return quantity.AppendDuration(b, now.Sub(*then))
}

// address says where a process can be reached: "tcp 127.0.0.1:8000", "tcp6 [::1]:8000".
func address(p wire.Port) string {
	addr := safetext.Field(p.Addr)
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return fmt.Sprintf("%s %s:%d", safetext.Field(p.Proto), addr, p.Port)
}

func portsOf(p *wire.Process) string {
	var all []string
	for _, port := range p.Ports {
		all = append(all, address(port))
	}
	return strings.Join(all, ", ")
}

// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

var leakColumns = []Column{
	{Name: "LEAK"},
	{Name: "OPENED", Right: true},
	{Name: "STATE", Optional: 1},
	{Name: "VERDICT", Color: verdictColor},
	{Name: "PROC", Right: true},
	{Name: "MEMORY", Right: true},
	{Name: "COST", Right: true, Optional: 4},
	{Name: "CPU", Right: true, Optional: 5},
	{Name: "USER", Optional: 3},
	{Name: "UNIT", Flexible: true, Optional: 2},
	{Name: "CONTAINER", Optional: 7},
	{Name: "LEAKER DIED", Flexible: true, Optional: 6},
	{Name: "FINGERPRINT", Wide: true, Optional: 8},
	{Name: "LEFT BY", Flexible: true},
}

// The places of columns in a row of leaks.
var (
	leakState     = slices.IndexFunc(leakColumns, func(c Column) bool { return c.Name == "STATE" })
	leakProcesses = slices.IndexFunc(leakColumns, func(c Column) bool { return c.Name == "PROC" })
)

// LeakColumns names the columns of that table.
func LeakColumns() []string { return names(leakColumns) }

// Leaks prints leaks as a table, with a line that sums them. Where there is no room for their
// states, ended ones are told by the word in the place of their processes.
func Leaks(w io.Writer, list []wire.Leak, now time.Time, style Style) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No leaks.")
		return err
	}
	t := Table{Columns: leakColumns}
	var open, processes int
	var bytes uint64
	for i := range list {
		l := &list[i]
		t.Rows = append(t.Rows, leakRow(l, now))
		if l.State == wire.LeakStateOpen {
			open++
			processes += l.Processes.Now
			bytes += orNone(l.RSSBytes) + orNone(l.SwapBytes)
		}
	}
	if len(style.Columns) == 0 && !t.shows(leakState, style) {
		for i := range list {
			if list[i].State == wire.LeakStateEnded {
				t.Rows[i][leakProcesses] = text(wire.LeakStateEnded) // or it looks like an open one
			}
		}
	}
	if err := t.Print(w, style); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s, %d open: %s %s\n", quantity.Count(len(list), "leak"), open, holding(processes), Bytes(bytes))
	return err
}

func leakRow(l *wire.Leak, now time.Time) []Cell {
	state := l.State
	if l.State == wire.LeakStateEnded {
		state = strings.TrimSuffix("ended, "+l.EndedBy, ", ")
	}
	for i := range l.Trust {
		state += ", " + decided(&l.Trust[i])
	}
	return []Cell{text(l.ID), text(Since(now, &l.OpenedAt)), text(state), text(l.Verdict), text(processesOf(l)), text(leakMemory(l)),
		text(ByteTime(l.ByteSeconds)), text(cpuTime(l.CPUSeconds)), text(safetext.Field(cmp.Or(l.Leaker.User, "-"))),
		text(safetext.Field(cmp.Or(l.Leaker.Unit, "-"))), text(shortContainer(l.Leaker.ContainerName, l.Leaker.Container)), text(leakerExit(l)), text(l.Fingerprint),
		{Text: LeakName(l), Fit: func(width int) string { return fitLeakName(l, width) }}}
}

// decided is what was decided about a leak's fingerprint, in a word or two.
func decided(t *wire.Trust) string {
	switch t.Kind {
	case wire.TrustAck:
		return "acked"
	case wire.TrustIgnore:
		return "ignored"
	}
	return safetext.Field(t.Rule) + " suspended"
}

func processesOf(l *wire.Leak) string {
	if l.State == wire.LeakStateOpen {
		return strconv.Itoa(l.Processes.Now)
	}
	return strconv.Itoa(l.Processes.Total)
}

// leakMemory is what it holds now, or held at most once it has ended.
func leakMemory(l *wire.Leak) string {
	if l.State == wire.LeakStateOpen {
		return Memory(l.RSSBytes, l.SwapBytes)
	}
	return Memory(l.PeakBytes, nil)
}

// shortContainer is a container's name, or else what tells it from others, as docker ps prints
// it.
func shortContainer(name, id string) string {
	if len(id) == 64 {
		id = id[:12]
	}
	return safetext.Field(cmp.Or(name, id, "-"))
}

func leakerExit(l *wire.Leak) string { return Exit(l.Leaker.Exit, l.Leaker.PID, l.Leaker.StartNS) }

func place(l *wire.Leak) string {
	return cmp.Or(l.Leaker.ContainerName, l.Leaker.Container, l.Leaker.Unit, "-")
}

// LeakName is the leaker's command in its normal form.
func LeakName(l *wire.Leak) string {
	return safetext.Terminal(cmp.Or(l.Name, l.Leaker.Comm))
}

func fitLeakName(l *wire.Leak, width int) string {
	head, rest, _ := strings.Cut(LeakName(l), " ")
	short := baseName(head)
	if rest != "" {
		short += " " + rest
	}
	return cutDisplay(short, width)
}

// ByteTime formats memory over time, "12 GiB·h"; "-" where it is not known.
func ByteTime(byteSeconds *float64) string {
	if byteSeconds == nil || *byteSeconds <= 0 {
		return "-"
	}
	return Bytes(uint64(*byteSeconds/3600)) + "·h"
}

func cpuTime(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return quantity.FormatDuration(time.Duration(*seconds * float64(time.Second)))
}

// holding is so many processes, and that they hold something.
func holding(processes int) string {
	if processes == 1 {
		return "1 process holds"
	}
	return quantity.Count(processes, "process") + " hold"
}

// LeakGroups prints sums of leaks, the dearest first as they come.
func LeakGroups(w io.Writer, by string, groups []wire.LeakGroup, now time.Time, style Style) error {
	if len(groups) == 0 {
		_, err := fmt.Fprintln(w, "No leaks.")
		return err
	}
	style.Columns = nil // those of leaks
	t := Table{Columns: []Column{
		{Name: "LEAKS", Right: true},
		{Name: "OPEN", Right: true, Optional: 1},
		{Name: "PROC", Right: true, Optional: 2},
		{Name: "MEMORY", Right: true},
		{Name: "COST", Right: true},
		{Name: "CPU", Right: true, Optional: 3},
		{Name: "LAST", Right: true, Optional: 4},
		{Name: "VERDICTS", Optional: 5},
		{Name: strings.ToUpper(by), Flexible: true},
	}}
	for i := range groups {
		g := &groups[i]
		bytes := g.RSSBytes
		t.Rows = append(t.Rows, []Cell{text(strconv.Itoa(g.Leaks)), text(strconv.Itoa(g.Open)), text(strconv.Itoa(g.Processes)),
			text(Memory(&bytes, &g.SwapBytes)), text(ByteTime(&g.ByteSeconds)), text(cpuTime(&g.CPUSeconds)), text(Since(now, &g.LastAt)),
			text(verdictCounts(g.Verdicts)), text(safetext.Terminal(cmp.Or(g.Key, "-")))})
	}
	return t.Print(w, style)
}

func verdictCounts(counts map[string]int) string {
	var parts []string
	for _, v := range []string{wire.VerdictLeaked, wire.VerdictUnknown, wire.VerdictDeliberate} {
		if n := counts[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	return strings.Join(parts, ", ")
}

// Leak prints everything that is known of one leak.
func Leak(w io.Writer, l *wire.Leak, now time.Time, style Style) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, safetext.Terminal(fmt.Sprintf(format, args...)))
	}
	fmt.Fprintf(&b, "%s  %s  %s\n", style.paint(bold, "leak "+safetext.Field(l.ID)), style.paint(verdictColor(l.Verdict), safetext.Field(l.Verdict)), LeakName(l))
	leaker := safetext.Args(l.Leaker.Cmdline)
	if leaker == "" {
		leaker = safetext.Name(l.Leaker.Comm)
	}
	line("left by", "%d %s", l.Leaker.PID, leaker)
	line("which died", "%s, %s ago", leakerExit(l), Since(now, &l.OpenedAt))
	var where []string
	if l.Leaker.User != "" {
		where = append(where, "user "+safetext.Field(l.Leaker.User))
	}
	if at := place(l); at != "-" {
		where = append(where, safetext.Field(at))
	}
	if len(where) > 0 {
		line("where", "%s", strings.Join(where, ", "))
	}
	for _, e := range l.Evidence {
		line("because", "%s", safetext.Terminal(e))
	}
	if l.State == wire.LeakStateEnded {
		line("ended", "%s ago, by %s", Since(now, l.EndedAt), cmp.Or(l.EndedBy, "nobody: what was left proved deliberate"))
	}
	line("processes", "%d now, %d at most, %d in all", l.Processes.Now, l.Processes.Peak, l.Processes.Total)
	if l.PeakBytes == nil {
		line("memory", "never sampled")
	} else {
		line("memory", "%s now, %s at most, cost %s and %s of CPU", Memory(l.RSSBytes, l.SwapBytes), Memory(l.PeakBytes, nil),
			ByteTime(l.ByteSeconds), cpuTime(l.CPUSeconds))
	}
	for _, held := range holdings(l.Holds) {
		line("holds", "%s", held)
	}
	if len(l.KillIDs) > 0 {
		line("kills", "%s", strings.Join(l.KillIDs, " "))
	}
	line("fingerprint", "%s", cmp.Or(l.Fingerprint, "-"))
	for i := range l.Trust {
		line("decided", "%s", trust.Sentence(&l.Trust[i]))
	}
	for i := range l.Members {
		m := &l.Members[i]
		how := "stranded"
		if m.Direct {
			how = "orphan"
		}
		command := safetext.Args(m.Cmdline)
		if command == "" {
			command = safetext.Name(m.Comm)
		}
		text := fmt.Sprintf("%7d  %-8s  %-8s  ", m.PID, how, safetext.Terminal(m.Verdict))
		fmt.Fprintf(&b, "%s%s\n", text, FitCommand(m.Cmdline, command, max(style.room(displayWidth(text)), minFlex)+unlimited(style)))
	}
	if more := l.Processes.Now - len(l.Members); more > 0 && len(l.Members) > 0 {
		fmt.Fprintf(&b, "         and %s more\n", quantity.Count(more, "process"))
	}
	if r := l.Remedy; r != nil {
		p := paragraphs{style: style, indent: 13}
		p.add("remedy", safetext.Terminal(r.Text)+": "+safetext.Terminal(r.Link))
		b.WriteString(p.text.String())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// unlimited is a width beyond any line where the style sets no limit.
func unlimited(style Style) int {
	if style.Width <= 0 {
		return 1 << 20
	}
	return 0
}

// aboutLeak says in one line what has become of a leak.
func aboutLeak(l *wire.Leak, now time.Time) string {
	s := fmt.Sprintf("%s %s", l.ID, l.Change)
	switch l.Change {
	case wire.LeakVerdict:
		s += fmt.Sprintf(" %s (was %s)", l.Verdict, l.Previous)
	case wire.LeakThreshold:
		s += " of " + l.Threshold + ", " + l.Verdict
	case wire.LeakEnded:
		s += strings.TrimSuffix(" by "+l.EndedBy, " by ")
	default:
		s += " (" + l.Verdict + ")"
	}
	s += ": " + LeakName(l)
	if where := place(l); where != "-" {
		s += " in " + safetext.Field(where)
	}
	return fmt.Sprintf("%s, %s, %s, left by %d (%s) %s ago", s, quantity.Count(l.Processes.Now, "process"), leakMemory(l), l.Leaker.PID,
		leakerExit(l), Since(now, &l.OpenedAt))
}

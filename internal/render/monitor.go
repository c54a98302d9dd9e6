// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/abot-trace/abot-trace/internal/alert"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Monitor prints a report: each check on a line, the worst first, then the orphans and
// processes behind it.
func Monitor(w io.Writer, doc *wire.Monitor, style Style) error {
	const most = 40 // columns of a name: a mount point can be long
	nameWidth := 0
	for i := range doc.Checks {
		nameWidth = max(nameWidth, min(most, displayWidth(doc.Checks[i].Name)))
	}
	for i := range doc.Checks {
		if _, err := fmt.Fprintln(w, checkLine(&doc.Checks[i], nameWidth, style)); err != nil {
			return err
		}
	}
	if err := processLines(w, "Old orphans", doc.Orphans, style); err != nil {
		return err
	}
	return processLines(w, "Processes with much memory", doc.HighMemory, style)
}

func checkLine(c *wire.Check, nameWidth int, style Style) string {
	shade := statusColor(c.Status)
	status := safetext.Field(c.Status)
	if status != wire.AlertOK {
		status = strings.ToUpper(status)
	}
	value, filled := "-", 0.0
	if c.Value != nil {
		value = alert.Format(*c.Value, safetext.Terminal(c.Unit))
		if c.Unit == alert.UnitPercent {
			filled = *c.Value
		}
	}
	bar := strings.Repeat(" ", barWidth)
	if c.Unit == alert.UnitPercent && c.Value != nil {
		bar = barOf(filled)
	}
	name := cut(safetext.Terminal(c.Name), nameWidth)
	pad := strings.Repeat(" ", max(0, nameWidth-displayWidth(name)))
	head := fmt.Sprintf("%-8s  ", status)
	middle := fmt.Sprintf("%s%s  ", name, pad)
	tail := fmt.Sprintf("  %9s", value)
	detail := ""
	if c.Detail != "" {
		room := 0
		if style.Width > 0 {
			room = max(1, style.Width-len(head)-displayWidth(middle)-barWidth-len(tail)-2)
		}
		detail = "  " + style.paint(dim, cut(safetext.Terminal(c.Detail), room))
	}
	return style.paint(shade, head) + middle + style.paint(shade, bar) + tail + detail
}

const barWidth = 10

// barOf draws a share in whole steps.
func barOf(percent float64) string {
	n := int(min(100, max(0, percent)) / 100 * barWidth)
	return strings.Repeat("█", n) + strings.Repeat("░", barWidth-n)
}

func statusColor(status string) color {
	switch status {
	case wire.AlertOK:
		return green
	case wire.AlertWarning:
		return yellow
	case wire.AlertCritical:
		return red
	default:
		return cyan
	}
}

// processLines lists processes under a title; nothing where there are none.
func processLines(w io.Writer, title string, list []wire.Process, style Style) error {
	if len(list) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", style.paint(bold, title)); err != nil {
		return err
	}
	for i := range list {
		p := &list[i]
		memory := "-"
		if p.RSSBytes != nil {
			total := *p.RSSBytes
			if p.SwapBytes != nil {
				total += *p.SwapBytes
			}
			memory = quantity.FormatSize(uint64(total))
		}
		command := safetext.Args(safetext.Redact(p.Cmdline))
		if command == "" {
			command = "[" + safetext.Terminal(p.Comm) + "]"
		}
		line := fmt.Sprintf("%8d  %8s  %-10s  %s", p.PID, memory, safetext.Field(p.User), command)
		if _, err := fmt.Fprintln(w, cut(line, style.Width)); err != nil {
			return err
		}
	}
	return nil
}

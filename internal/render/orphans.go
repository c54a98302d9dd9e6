// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Orphans prints living orphans as a table.
func Orphans(w io.Writer, list []wire.Process, now time.Time, style Style) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No orphans.")
		return err
	}
	rows := [][]string{{"PID", "USER", "SINCE", "VERDICT", "TREE", "MEMORY", "LEFT BY", "ADOPTED BY", "COMMAND"}}
	for i := range list {
		rows = append(rows, orphanRow(&list[i], now))
	}
	verdictAt := 3
	widths := columnWidths(rows)
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i == len(row)-1 {
				b.WriteString(cut(cell, style.room(sum(widths[:i])+2*i)))
				break
			}
			padded := cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			if i == verdictAt && n > 0 {
				padded = style.paint(verdictColor(cell), padded)
			}
			b.WriteString(padded)
		}
		line := b.String()
		if n == 0 {
			line = style.paint(bold, line)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func orphanRow(p *wire.Process, now time.Time) []string {
	o := p.Orphan
	leaker, adopter, tree, memory := "not seen", "-", "-", "-"
	if o.Leaker != nil {
		leaker = fmt.Sprintf("%d %s, %s", o.Leaker.PID, safetext.Name(o.Leaker.Comm), Exit(o.Leaker.Exit))
	}
	switch {
	case !o.Direct:
		adopter = "(stranded)"
	case o.Adopter != nil:
		adopter = fmt.Sprintf("%d %s", o.Adopter.PID, safetext.Name(o.Adopter.Comm))
	}
	if o.Tree != nil {
		tree = fmt.Sprintf("%d proc", o.Tree.Processes)
		memory = Memory(o.Tree.RSSBytes, o.Tree.SwapBytes)
	}
	return []string{fmt.Sprint(p.PID), safetext.Field(p.User), Since(now, o.Since), o.Verdict, tree, memory, leaker, adopter, Command(p)}
}

func columnWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func sum(n []int) int {
	total := 0
	for _, v := range n {
		total += v
	}
	return total
}

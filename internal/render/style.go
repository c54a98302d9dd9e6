// SPDX-License-Identifier: Apache-2.0

package render

import (
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Style says how output may look.
type Style struct {
	Color bool
	Width int // columns; 0 is without limit
	// Wide shows all columns of tables, whatever the width.
	Wide bool
	// Columns names the columns of tables that are shown, in that order, as [SameColumn]
	// compares them; empty is the table's own choice.
	Columns []string
}

// room is what is left of a line of which used columns are taken, but never too little
// to say anything; 0 is without limit.
func (s Style) room(used int) int {
	if s.Width <= 0 {
		return 0
	}
	return max(s.Width-used, minText)
}

type color string

const (
	plain  color = ""
	bold   color = "\x1b[1m"
	dim    color = "\x1b[2m"
	red    color = "\x1b[31m"
	green  color = "\x1b[32m"
	yellow color = "\x1b[33m"
	cyan   color = "\x1b[36m"
	reset        = "\x1b[0m"
)

func (s Style) paint(c color, text string) string {
	if !s.Color || c == plain || text == "" {
		return text
	}
	return string(c) + text + reset
}

// appendPainted is paint at the end of b.
func appendPainted[T string | []byte](b []byte, s Style, c color, text T) []byte {
	if !s.Color || c == plain || len(text) == 0 {
		return append(b, text...)
	}
	return append(append(append(b, c...), text...), reset...)
}

func verdictColor(v string) color {
	switch v {
	case wire.VerdictLeaked:
		return red
	case wire.VerdictDeliberate:
		return green
	default:
		return yellow
	}
}

// cut shortens text to at most n columns of a terminal; 0 or less is without limit.
func cut(text string, n int) string {
	if n <= 0 || displayWidth(text) <= n {
		return text
	}
	return cutDisplay(text, n)
}

// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"

	"github.com/abot-trace/abot-trace/internal/safetext"
)

// minFlex is the least width of a column that is cut, before others are left out for it.
const minFlex = 16

// A Column of a table.
type Column struct {
	Name  string
	Right bool // numbers and sizes stand to the right
	// Optional columns are left out where the terminal is too narrow, the one with the
	// highest number first. 0 is never left out.
	Optional int
	// Flexible columns are cut to what is left of the line; the others never are.
	Flexible bool
	// Wide columns are shown only where everything is asked for.
	Wide bool
	// Color paints a cell by its text; nil is none.
	Color func(text string) color
}

// A Cell is a text, or one that can say the same in less room.
type Cell struct {
	Text string
	// Fit returns the text in at most width columns; nil cuts its end.
	Fit func(width int) string
}

// text makes cells of texts, whoever has chosen them.
func text(s string) Cell { return Cell{Text: safetext.Terminal(s)} }

// A Table prints rows in columns, in no more columns than the terminal has: what
// identifies a row is never cut or left out for what does not.
type Table struct {
	Columns []Column
	Rows    [][]Cell
	// Heads are lines above rows, by the row that each stands above: what those from there on
	// have in common.
	Heads map[int]string
}

// SameColumn reports whether two names mean one column: "left-by" is "LEFT BY".
func SameColumn(a, b string) bool { return columnKey(a) == columnKey(b) }

func columnKey(name string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "_", "").Replace(name))
}

// names are the columns' names, as --columns takes them.
func names(columns []Column) (list []string) {
	for i := range columns {
		list = append(list, strings.ReplaceAll(strings.ToLower(columns[i].Name), " ", "-"))
	}
	return list
}

// displayed makes ambiguous letters one column wide, whatever the locale: terminals do.
var displayed = &runewidth.Condition{}

// displayWidth is how many columns of a terminal s takes. It has no control characters.
func displayWidth[T string | []byte](s T) int {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return displayed.StringWidth(string(s))
		}
	}
	return len(s)
}

// Print writes the table.
func (t *Table) Print(w io.Writer, style Style) error {
	shown, widths := t.layout(style)
	out := bufio.NewWriter(w)
	header := make([]Cell, len(t.Columns))
	for i := range t.Columns {
		header[i] = text(t.Columns[i].Name)
	}
	t.line(out, header, shown, widths, Style{}, func(s string) string { return style.paint(bold, s) })
	for i, row := range t.Rows {
		if head, ok := t.Heads[i]; ok {
			if style.Width > 0 && !style.Wide {
				head = cutDisplay(head, style.Width)
			}
			_, _ = out.WriteString(style.paint(bold, head) + "\n")
		}
		t.line(out, row, shown, widths, style, func(s string) string { return s })
	}
	return out.Flush()
}

// line writes one row; whole paints the line as one.
func (t *Table) line(out *bufio.Writer, row []Cell, shown, widths []int, style Style, whole func(string) string) {
	var b strings.Builder
	for n, i := range shown {
		c, cell := &t.Columns[i], row[i].fit(widths[i])
		blanks := strings.Repeat(" ", max(widths[i]-displayWidth(cell), 0))
		if c.Color != nil {
			cell = style.paint(c.Color(row[i].Text), cell)
		}
		switch {
		case c.Right:
			b.WriteString(blanks + cell)
		case n == len(shown)-1:
			b.WriteString(cell)
		default:
			b.WriteString(cell + blanks)
		}
		if n < len(shown)-1 {
			b.WriteString("  ")
		}
	}
	_, _ = out.WriteString(whole(strings.TrimRight(b.String(), " ")) + "\n") // Flush tells
}

func (c *Cell) fit(width int) string {
	switch {
	case displayWidth(c.Text) <= width:
		return c.Text
	case c.Fit != nil:
		return c.Fit(width)
	}
	return cutDisplay(c.Text, width)
}

// cutDisplay shortens text to at most width columns of the terminal.
func cutDisplay(s string, width int) string {
	return displayed.Truncate(s, max(width, 1), "…")
}

// layout chooses the columns and their widths.
func (t *Table) layout(style Style) (shown, widths []int) {
	widths = make([]int, len(t.Columns))
	for i := range t.Columns {
		widths[i] = displayWidth(t.Columns[i].Name)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], displayWidth(row[i].Text))
		}
	}
	shown = t.wanted(style)
	if style.Width <= 0 || style.Wide {
		return shown, widths
	}
	for {
		fixed, flexible := t.measure(shown, widths)
		room := style.Width - fixed
		if room >= t.least(flexible, widths) || len(style.Columns) > 0 || !t.dropOne(&shown) {
			t.share(flexible, widths, room)
			return shown, widths
		}
	}
}

// shows reports whether the column has room.
func (t *Table) shows(column int, style Style) bool {
	shown, _ := t.layout(style)
	return slices.Contains(shown, column)
}

// wanted lists the columns that are to be shown where there is room: those with a value
// in any row, or those that were asked for.
func (t *Table) wanted(style Style) (shown []int) {
	for _, name := range style.Columns {
		for i := range t.Columns {
			if SameColumn(t.Columns[i].Name, name) {
				shown = append(shown, i)
			}
		}
	}
	if len(style.Columns) > 0 {
		return shown
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		if (!c.Wide || style.Wide) && (c.Optional == 0 || t.filled(i)) {
			shown = append(shown, i)
		}
	}
	return shown
}

func (t *Table) filled(i int) bool {
	for _, row := range t.Rows {
		if row[i].Text != "" && row[i].Text != "-" {
			return true
		}
	}
	return false
}

// measure is the width of the columns that are not cut, with what is between all, and
// the columns that are.
func (t *Table) measure(shown, widths []int) (fixed int, flexible []int) {
	fixed = 2 * (len(shown) - 1)
	for _, i := range shown {
		if t.Columns[i].Flexible {
			flexible = append(flexible, i)
		} else {
			fixed += widths[i]
		}
	}
	return fixed, flexible
}

// least is the room without which a column is left out.
func (t *Table) least(flexible, widths []int) (sum int) {
	for _, i := range flexible {
		sum += min(widths[i], minFlex)
	}
	return sum
}

// dropOne leaves out the column that is missed least; false where none may be.
func (t *Table) dropOne(shown *[]int) bool {
	at := -1
	for n, i := range *shown {
		if o := t.Columns[i].Optional; o > 0 && (at < 0 || o > t.Columns[(*shown)[at]].Optional) {
			at = n
		}
	}
	if at < 0 {
		return false
	}
	*shown = append((*shown)[:at:at], (*shown)[at+1:]...)
	return true
}

// share divides the room among the columns that are cut: each gets what it needs as long
// as it needs less than an equal part.
func (t *Table) share(flexible, widths []int, room int) {
	for left := len(flexible); left > 0; {
		part, settled := max(room/left, 1), false
		for n, i := range flexible {
			if i >= 0 && widths[i] <= part {
				room -= widths[i]
				flexible[n], settled = -1, true
				left--
			}
		}
		if settled {
			continue
		}
		for _, i := range flexible {
			if i >= 0 {
				widths[i] = part
				room -= part
				if left--; left > 0 {
					part = max(room/left, 1)
				}
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// orphanColumns are those of the orphans' table.
var orphanColumns = []Column{
	{Name: "PID", Right: true},
	{Name: "USER", Optional: 2},
	{Name: "SINCE", Right: true},
	{Name: "VERDICT", Color: verdictColor},
	{Name: "TREE", Right: true, Optional: 3},
	{Name: "MEMORY", Right: true},
	{Name: "UNIT", Flexible: true, Optional: 4},
	{Name: "LEFT BY", Flexible: true, Optional: 1},
	{Name: "ADOPTED BY", Optional: 5},
	{Name: "COMMAND", Flexible: true},
}

// Orphans prints living orphans as a table.
func Orphans(w io.Writer, list []wire.Process, now time.Time, style Style) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No orphans.")
		return err
	}
	t := Table{Columns: orphanColumns}
	for i := range list {
		t.Rows = append(t.Rows, orphanRow(&list[i], now))
	}
	return t.Print(w, style)
}

func orphanRow(p *wire.Process, now time.Time) []Cell {
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
	return []Cell{text(fmt.Sprint(p.PID)), text(safetext.Field(p.User)), text(Since(now, o.Since)), text(o.Verdict),
		text(tree), text(memory), text(safetext.Field(cmp.Or(p.Unit, "-"))), text(leaker), text(adopter), commandCell(p)}
}

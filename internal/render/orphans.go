// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
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
	{Name: "CONTAINER", Optional: 6},
	{Name: "ADOPTED BY", Optional: 5},
	{Name: "LEAK", Wide: true, Optional: 7},
	{Name: "CWD", Flexible: true, Optional: 8},
	{Name: "PORTS", Flexible: true, Optional: 8},
	{Name: "COMMAND", Flexible: true},
}

// OrphanColumns names them.
func OrphanColumns() []string { return names(orphanColumns) }

// Orphans prints living orphans as a table, those of one leak below it: the leaks stand in the
// order of their first orphans in list, and the orphans of each in that of list. All are
// orphans.
func Orphans(w io.Writer, list []wire.Process, now time.Time, style Style) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No orphans.")
		return err
	}
	t := Table{Columns: orphanColumns, Heads: make(map[int]string)}
	groups := byLeak(list)
	for _, g := range groups {
		grouped := len(style.Columns) == 0 // whoever picks columns wants rows and nothing else
		if grouped && (g.id != "" || len(groups) > 1) {
			t.Heads[len(t.Rows)] = g.head(now)
		}
		for _, p := range g.orphans {
			row := orphanRow(p, now)
			if l := p.Orphan.Leaker; grouped && g.id != "" && l != nil && l.PID == g.leaker.PID && l.StartNS == g.leaker.StartNS {
				row[leftBy] = text("")
			}
			t.Rows = append(t.Rows, row)
		}
	}
	if err := t.Print(w, style); err != nil || len(style.Columns) > 0 {
		return err
	}
	var b strings.Builder
	writeWrapped(&b, style, plain, "", orphanSum(list))
	_, err := io.WriteString(w, b.String())
	return err
}

// orphanSum is the line below the table.
func orphanSum(list []wire.Process) string {
	leaks := make(map[string]bool)
	leaked, memory := 0, uint64(0)
	for i := range list {
		o := list[i].Orphan
		if o.Leak != "" {
			leaks[o.Leak] = true
		}
		if o.Verdict == wire.VerdictLeaked {
			leaked++
		}
		if o.Direct && o.Tree != nil {
			memory += orNone(o.Tree.RSSBytes) + orNone(o.Tree.SwapBytes)
		}
	}
	return fmt.Sprintf("%s, %d of them leaked, %s: their trees hold %s", quantity.Count(len(list), "orphan"), leaked, quantity.Count(len(leaks), "leak"), Bytes(memory))
}

// leftBy is the place of that column in a row.
var leftBy = slices.IndexFunc(orphanColumns, func(c Column) bool { return c.Name == "LEFT BY" })

// orphansOf is the listed orphans of one leak, or with an empty id those that are in none.
type orphansOf struct {
	id      string
	leaker  *wire.Leaker // of the one among them that is an orphan for longest
	since   *time.Time   // of that one
	sinceNS uint64
	orphans []*wire.Process
}

func byLeak(list []wire.Process) (groups []*orphansOf) {
	known := make(map[string]*orphansOf)
	for i := range list {
		o := list[i].Orphan
		id := o.Leak
		if o.Leaker == nil {
			id = ""
		}
		g := known[id]
		if g == nil {
			g = &orphansOf{id: id}
			known[id], groups = g, append(groups, g)
		}
		if g.leaker == nil || o.SinceNS < g.sinceNS {
			g.leaker, g.since, g.sinceNS = o.Leaker, o.Since, o.SinceNS
		}
		g.orphans = append(g.orphans, &list[i])
	}
	return groups
}

// head says what they have in common. The memory of a stranded one is in its root's tree.
func (g *orphansOf) head(now time.Time) string {
	if g.id == "" {
		return "in no leak: " + quantity.Count(len(g.orphans), "orphan")
	}
	verdict, memory := wire.VerdictUnknown, uint64(0)
	for _, p := range g.orphans {
		o := p.Orphan
		if o.Verdict == wire.VerdictLeaked {
			verdict = o.Verdict
		}
		if o.Direct && o.Tree != nil {
			memory += orNone(o.Tree.RSSBytes) + orNone(o.Tree.SwapBytes)
		}
	}
	command := safetext.Args(g.leaker.Cmdline)
	if command == "" {
		command = safetext.Name(g.leaker.Comm)
	}
	return fmt.Sprintf("%s (%s): %s, %s, left by %d (%s) %s ago: %s", safetext.Field(g.id), verdict, quantity.Count(len(g.orphans), "orphan"),
		Bytes(memory), g.leaker.PID, Exit(g.leaker.Exit, g.leaker.PID, g.leaker.StartNS), Since(now, g.since), command)
}

func orphanRow(p *wire.Process, now time.Time) []Cell {
	o := p.Orphan
	leaker, adopter, tree, memory := "not seen", "-", "-", "-"
	if o.Leaker != nil {
		leaker = fmt.Sprintf("%d %s, %s", o.Leaker.PID, safetext.Name(o.Leaker.Comm), Exit(o.Leaker.Exit, o.Leaker.PID, o.Leaker.StartNS))
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
		text(tree), text(memory), text(safetext.Field(cmp.Or(p.Unit, "-"))), text(leaker), text(shortContainer(p.ContainerName, p.Container)), text(adopter),
		text(cmp.Or(safetext.Field(o.Leak), "-")), text(safetext.Field(p.Cwd)), text(portsOf(p)), commandCell(p)}
}

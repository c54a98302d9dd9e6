// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// maxPlanned is how many processes of a plan are listed; the rest is counted.
const maxPlanned = 20

// KillPlan prints what a kill by hand would end, and what it would leave alone.
func KillPlan(w io.Writer, plan *wire.KillPlan, style Style) error {
	t := Table{Columns: []Column{
		{Name: "PID", Right: true},
		{Name: "USER", Optional: 1},
		{Name: "MEMORY", Right: true},
		{Name: "COMMAND", Flexible: true},
	}}
	var bytes uint64
	var users []string
	for i := range plan.Processes {
		p := &plan.Processes[i]
		bytes += orNone(p.RSSBytes) + orNone(p.SwapBytes)
		if p.User != "" && !slices.Contains(users, p.User) {
			users = append(users, p.User)
		}
		if i >= maxPlanned {
			continue
		}
		name := safetext.Name(p.Comm)
		if len(p.Cmdline) > 0 {
			name = safetext.Args(p.Cmdline)
		}
		t.Rows = append(t.Rows, []Cell{text(strconv.Itoa(int(p.PID))), text(safetext.Field(cmp.Or(p.User, "-"))), text(Memory(p.RSSBytes, p.SwapBytes)),
			{Text: name, Fit: func(width int) string { return FitCommand(p.Cmdline, name, width) }}})
	}
	slices.Sort(users)
	what := "the tree of " + strconv.Itoa(int(plan.PID))
	switch {
	case plan.Leak != "":
		what = "everything that leak " + safetext.Field(plan.Leak) + " left"
	case plan.Scope == wire.ScopeProcess:
		what = "process " + strconv.Itoa(int(plan.PID)) + " alone"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "To be ended: %s, %s, %s", what, quantity.Count(len(plan.Processes), "process"), Bytes(bytes))
	if len(users) > 0 {
		fmt.Fprintf(&b, " of %s", safetext.Field(strings.Join(users, ", ")))
	}
	b.WriteByte('\n')
	if len(t.Rows) > 0 {
		if err := t.Print(&b, style); err != nil {
			return err
		}
	}
	if more := len(plan.Processes) - maxPlanned; more > 0 {
		fmt.Fprintf(&b, "and %s more\n", quantity.Count(more, "process"))
	}
	for i := range plan.Spared[:min(len(plan.Spared), maxPlanned)] {
		p := &plan.Spared[i]
		fmt.Fprintf(&b, "left alone: %d", p.PID)
		if p.Comm != "" {
			fmt.Fprintf(&b, " %s of %s", safetext.Name(p.Comm), safetext.Field(cmp.Or(p.User, "-")))
		}
		fmt.Fprintf(&b, ": %s\n", safetext.Terminal(p.Reason))
	}
	if more := len(plan.Spared) - maxPlanned; more > 0 {
		fmt.Fprintf(&b, "left alone: %s more\n", quantity.Count(more, "process"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

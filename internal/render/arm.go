// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Trial prints what a rule would have ended over what is remembered, and what became of that.
func Trial(w io.Writer, rule string, list []replay.Tried, seen *replay.Summary, now time.Time, style Style) error {
	t := Table{Columns: []Column{
		{Name: "LEAK"},
		{Name: "AGO", Right: true},
		{Name: "PROC", Right: true, Optional: 1},
		{Name: "HELD", Right: true},
		{Name: "WITHOUT THE RULE"},
		{Name: "LEFT BY", Flexible: true},
	}}
	fates := make(map[string]int)
	var bytes uint64
	for i := range list {
		l := &list[i]
		fates[l.Fate]++
		bytes += l.Bytes
		held := "-"
		if l.Bytes > 0 {
			held = Bytes(l.Bytes)
		}
		t.Rows = append(t.Rows, []Cell{text(cmp.Or(l.Leak, "-")), text(Since(now, &l.Time)), text(strconv.Itoa(l.Processes)), text(held),
			text(l.Fate), text(safetext.Terminal(l.Name))})
	}
	if len(list) > 0 {
		if err := t.Print(w, style); err != nil {
			return err
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Over %d events", seen.Events)
	if seen.Events > 0 {
		fmt.Fprintf(&b, " since %s ago", Since(now, &seen.From))
	}
	fmt.Fprintf(&b, " rule %s would have ended %s", safetext.Field(rule), quantity.Count(len(list), "leak"))
	if bytes > 0 {
		fmt.Fprintf(&b, ", which held %s", Bytes(bytes))
	}
	b.WriteString(".\n")
	for _, fate := range []string{replay.FateDeliberate, replay.FateItself, replay.FateKilled, replay.FateOther, replay.FateOpen} {
		if n := fates[fate]; n > 0 {
			fmt.Fprintf(&b, "  %d %s\n", n, fate)
		}
	}
	if fates[replay.FateOpen] > 0 {
		b.WriteString("Those that are open are ended as soon as it is armed, as far as its limit and the budget let it.\n")
	}
	if !seen.Sampled && seen.Events > 0 {
		b.WriteString("The events tell no memory: conditions on memory could not hold.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Armed prints the rules that end what they match, with what they have ended.
func Armed(w io.Writer, list []wire.RuleStatus, now time.Time, style Style) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No rule is armed.")
		return err
	}
	t := Table{Columns: []Column{
		{Name: "RULE"},
		{Name: "ARMED", Right: true},
		{Name: "BY"},
		{Name: "TODAY", Right: true},
		{Name: "LEAKS", Right: true},
		{Name: "PROC", Right: true, Optional: 2},
		{Name: "FREED", Right: true, Optional: 1},
		{Name: "SUSPENDED FOR", Flexible: true},
	}}
	for i := range list {
		r := &list[i]
		since, by, today := "-", "a file", strconv.Itoa(r.Today)
		if r.ArmedAt != nil {
			since = Since(now, r.ArmedAt)
		}
		if r.ArmedBy != "" {
			by = safetext.Field(r.ArmedBy)
		}
		if r.LeaksPerDay > 0 {
			today += "/" + strconv.Itoa(r.LeaksPerDay)
		}
		t.Rows = append(t.Rows, []Cell{text(safetext.Field(r.Name)), text(since), text(by), text(today),
			text(strconv.FormatUint(r.Leaks, 10)), text(strconv.FormatUint(r.Processes, 10)), text(Bytes(r.Bytes)),
			text(cmp.Or(strings.Join(r.Suspended, " "), "-"))})
	}
	return t.Print(w, style)
}

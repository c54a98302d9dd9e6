// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func tableOf(rows ...[]string) *Table {
	t := &Table{Columns: []Column{
		{Name: "PID", Right: true}, {Name: "USER", Optional: 2}, {Name: "VERDICT"},
		{Name: "UNIT", Optional: 1, Flexible: true}, {Name: "NOTE", Wide: true, Optional: 3}, {Name: "COMMAND", Flexible: true},
	}}
	for _, r := range rows {
		cells := make([]Cell, len(r))
		for i := range r {
			cells[i] = text(r[i])
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

func printed(t *Table, style Style) string {
	var b strings.Builder
	_ = t.Print(&b, style)
	return b.String()
}

func TestTableWidths(t *testing.T) {
	rows := [][]string{
		{"7", "root", "leaked", "worker.service", "n", "python3 app.py --with a-rather-long-argument"},
		{"4711", "bob", "deliberate", "", "m", "sleep 300"},
	}
	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, "" +
			" PID  USER  VERDICT     UNIT            COMMAND\n" +
			"   7  root  leaked      worker.service  python3 app.py --with a-rather-long-argument\n" +
			"4711  bob   deliberate                  sleep 300\n"},
		{60, "" +
			" PID  USER  VERDICT     UNIT            COMMAND\n" +
			"   7  root  leaked      worker.service  python3 app.py --wi…\n" +
			"4711  bob   deliberate                  sleep 300\n"},
		{40, "" +
			" PID  VERDICT     COMMAND\n" +
			"   7  leaked      python3 app.py --with…\n" +
			"4711  deliberate  sleep 300\n"},
	} {
		if got := printed(tableOf(rows...), Style{Width: tt.width}); got != tt.want {
			t.Errorf("%d columns:\n%s\nwant\n%s", tt.width, got, tt.want)
		}
	}
	all := tableOf(rows...)
	if got := printed(all, Style{Width: 40, Wide: true}); !strings.Contains(got, "NOTE") || !strings.Contains(got, "long-argument") {
		t.Errorf("everything:\n%s", got)
	}
	only := tableOf(rows...)
	if got := printed(only, Style{Width: 30, Columns: []string{"command", "pid"}}); !strings.HasPrefix(got, "COMMAND") || !strings.HasSuffix(got, "4711\n") {
		t.Errorf("only two columns:\n%s", got)
	}
}

// No line is wider than the terminal, as long as what is never cut fits.
func TestTableFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(40, 200).Draw(t, "width")
		var rows [][]string
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			rows = append(rows, []string{"1", rapid.StringN(0, 40, -1).Draw(t, "user"), "unknown", rapid.StringMatching(`[a-z日本]{0,60}`).Draw(t, "unit"),
				"note", rapid.StringMatching(`[a-z 日本🙂]{0,300}`).Draw(t, "command")})
		}
		for _, r := range rows {
			r[1] = strings.Map(func(c rune) rune {
				if c < ' ' || c > '~' {
					return 'x'
				}
				return c
			}, r[1])
		}
		for _, line := range strings.Split(printed(tableOf(rows...), Style{Width: width}), "\n") {
			if displayWidth(line) > width {
				t.Fatalf("%d columns of %d: %q", displayWidth(line), width, line)
			}
		}
	})
}

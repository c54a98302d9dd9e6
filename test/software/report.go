// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// A row is a case in one place, with all its runs.
type row struct {
	c      *testCase
	place  place
	trials []*trial
}

// A cell is what all runs of a row were told of one role.
type cell struct {
	row     *row
	role    string
	want    want
	told    []string // each once
	settled []string
	ended   bool // the armed rule has ended one that was not meant to be
	spared  bool // one that was meant to be ended by the armed rule lives
}

func (r *row) cells() []cell {
	var cells []cell
	for role, w := range r.c.wants {
		c := cell{row: r, role: role, want: w}
		for _, t := range r.trials {
			for _, a := range t.answers {
				if a.role != role {
					continue
				}
				c.told = append(c.told, a.told)
				if w == kept && a.leftUnjudged() {
					a.settled = "ended by itself"
				}
				c.settled = append(c.settled, a.settled)
				c.ended = c.ended || a.ended
				c.spared = c.spared || a.settled == string(leaked) && a.alive
			}
		}
		slices.Sort(c.told)
		slices.Sort(c.settled)
		c.told, c.settled = slices.Compact(c.told), slices.Compact(c.settled)
		cells = append(cells, c)
	}
	slices.SortFunc(cells, func(a, b cell) int { return strings.Compare(a.role, b.role) })
	return cells
}

// complaints are those of all runs, each with how often.
func (r *row) complaints() []string {
	count := map[string]int{}
	for _, t := range r.trials {
		for _, line := range t.complaints() {
			count[line]++
		}
	}
	var lines []string
	for line, n := range count {
		lines = append(lines, fmt.Sprintf("%d of %d: %s", n, len(r.trials), line))
	}
	slices.Sort(lines)
	return lines
}

// figures are what the verdict is judged by.
type figures struct {
	cases, rows, runs int
	cells             int // a role of a row: what one verdict is wanted of
	tellable          int // of these, those that a person could tell
	meantLeaked       int // meant, called leaked
	meantEnded        int // meant, ended by the armed rule
	leakedHidden      int // leaked, called deliberate or never told
	unknown           int // could be told, stayed unknown
	failed            int // rows with a run that gave no answer
	unsteady          int // cells whose runs do not agree
}

func count(rows []*row) (f figures) {
	names := map[string]bool{}
	for _, r := range rows {
		names[r.c.name] = true
		f.rows++
		f.runs += len(r.trials)
		if slices.ContainsFunc(r.trials, func(t *trial) bool { return t.err != nil }) {
			f.failed++
		}
		for _, c := range r.cells() {
			f.add(c)
		}
	}
	f.cases = len(names)
	return f
}

func (f *figures) add(c cell) {
	f.cells++
	if len(c.settled) > 1 && c.want != kept {
		f.unsteady++
	}
	if c.want == unknown {
		return
	}
	f.tellable++
	switch {
	case c.want != leaked && slices.Contains(c.settled, string(leaked)):
		f.meantLeaked++
	case c.want == leaked && (slices.Contains(c.settled, string(deliberate)) || slices.Contains(c.settled, string(none))):
		f.leakedHidden++
	case slices.Contains(c.settled, string(unknown)):
		f.unknown++
	}
	if c.want != leaked && c.ended {
		f.meantEnded++
	}
}

// missed says which goals are missed.
func (f figures) missed() (goals []string) {
	miss := func(missed bool, format string, args ...any) {
		if missed {
			goals = append(goals, fmt.Sprintf(format, args...))
		}
	}
	miss(f.meantLeaked > 0, "%d meant called leaked, goal 0", f.meantLeaked)
	miss(f.meantEnded > 0, "%d meant ended by the armed rule, goal 0", f.meantEnded)
	miss(f.leakedHidden > 0, "%d leaks called deliberate or not told, goal 0", f.leakedHidden)
	miss(f.unknown*20 > f.tellable, "%d of %d unknown, goal 5 %%", f.unknown, f.tellable)
	miss(f.failed > 0, "%d rows gave no answer", f.failed)
	return goals
}

func (f figures) String() string {
	share := 0.0
	if f.tellable > 0 {
		share = 100 * float64(f.unknown) / float64(f.tellable)
	}
	return fmt.Sprintf("%d cases, %d rows, %d runs, %d verdicts wanted, %d of them a person could tell: "+
		"%d meant called leaked, %d meant ended by the armed rule, %d leaks called deliberate or not told, "+
		"%d unknown (%.1f %%); runs of %d disagree, %d rows gave no answer",
		f.cases, f.rows, f.runs, f.cells, f.tellable, f.meantLeaked, f.meantEnded, f.leakedHidden,
		f.unknown, share, f.unsteady, f.failed)
}

const preface = `# Verdicts on real software

<!-- Written by "make docs-verdicts"; changes made by hand are lost. -->

What is told of the processes of software that nobody here wrote, run from Debian 12's
packages in a container: "init" is one with a small init, "systemd" a booted systemd with
the package installed. *Wanted* is what an operator who knows what was done wants to be
told: leaked, deliberate, no orphan; *kept* is either of the last two; unknown where no
person could tell. *At once* is the first verdict, *settled* the one that held 1.6 s after
the deed; where runs differ, each is named. *Ended* says whether an armed rule for leaked
trees has ended it. What Debian does not have (agents' tools, browsers' drivers) is there as
a small program of the same shape.

`

// writeDocument writes what the rows have shown.
func writeDocument(path string, rows []*row) error {
	var b strings.Builder
	b.WriteString(preface)
	fmt.Fprintf(&b, "%s.\n", count(rows))
	section := ""
	for _, r := range rows {
		if r.c.section != section {
			section = r.c.section
			fmt.Fprintf(&b, "\n## %s\n\n| case | place | process | wanted | at once | settled | ended |\n|---|---|---|---|---|---|---|\n", section)
		}
		for _, c := range r.cells() {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", escape(r.c.name), r.place, c.role, c.want,
				orNoAnswer(c.told), orNoAnswer(c.settled), yes(c.ended))
		}
	}
	b.WriteString("\n## Rows that stay unknown, and why\n\n")
	for _, r := range rows {
		reason := r.c.why + r.c.open
		if reason != "" && slices.ContainsFunc(r.cells(), func(c cell) bool { return slices.Contains(c.settled, string(unknown)) }) {
			fmt.Fprintf(&b, "- %s (%s): %s\n", r.c.name, r.place, reason)
		}
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// orNoAnswer lists what was told; nothing was where the script itself failed.
func orNoAnswer(words []string) string {
	if len(words) == 0 {
		return "(the script failed)"
	}
	return strings.Join(words, "; ")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func escape(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// writeDetails writes all that was told in the first wrong run of each row.
func writeDetails(w io.Writer, rows []*row) {
	for _, r := range rows {
		if len(r.complaints()) == 0 {
			continue
		}
		fmt.Fprintf(w, "=== %s (%s)\n%s\n%s\n", r.c.name, r.place, strings.Join(r.complaints(), "\n"), r.c.script)
		i := slices.IndexFunc(r.trials, func(t *trial) bool { return len(t.complaints()) > 0 })
		t := r.trials[i]
		for _, a := range t.answers {
			if t.wrong(a) == "" {
				continue
			}
			fmt.Fprintf(w, "--- %s: pid %d, at once %s, settled %s, ended %t, alive %t\n%s", a.role, a.id.pid, a.told, a.settled, a.ended, a.alive,
				strings.Join(a.lines, ""))
		}
		if t.err != nil {
			fmt.Fprintf(w, "--- the script printed\n%s\n", t.output)
		}
	}
}

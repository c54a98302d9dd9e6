// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Explain prints what speaks for a verdict, and what each rule makes of it.
func Explain(w io.Writer, x *wire.Explain, now time.Time, style Style) error {
	var b strings.Builder
	p := &x.Process
	fmt.Fprintf(&b, "%s %s\n", style.paint(bold, fmt.Sprint(p.PID)), Command(p))
	fmt.Fprintf(&b, "  user %s, %s, started %s ago, lineage %s\n", safetext.Field(p.User), safetext.Field(p.State),
		Since(now, p.StartedAt), safetext.Field(p.Lineage))
	if p.SpawnedBy != nil {
		fmt.Fprintf(&b, "  spawned by %d %s\n", p.SpawnedBy.PID, safetext.Name(p.SpawnedBy.Comm))
	}
	if p.Container != "" {
		writeWrapped(&b, style, plain, "  ", container(p))
	}
	b.WriteString(fate(x, now, style))
	if len(x.Evidence) > 0 {
		b.WriteString("\nEvidence:\n")
		for _, line := range x.Evidence {
			writeWrapped(&b, style, plain, "  - ", safetext.Terminal(line))
		}
	}
	if held := holdings(x.Holds); len(held) > 0 {
		b.WriteString("\nHolds:\n")
		for _, line := range held {
			b.WriteString("  - " + line + "\n")
		}
	}
	b.WriteString("\nRules:\n")
	if len(x.Rules) == 0 {
		b.WriteString("  none: nothing would be ended\n")
	}
	for _, r := range x.Rules {
		applies, c := "does not apply", dim
		if r.Applies {
			applies, c = "applies", yellow
		}
		name := safetext.Field(r.Name)
		text := fmt.Sprintf("%s %s: %s", name, applies, safetext.Terminal(r.Why))
		if r.ActsAt != nil {
			text += fmt.Sprintf(" (acts at %s, in %s)", r.ActsAt.Local().Format("2006-01-02 15:04:05"), quantity.FormatDuration(r.ActsAt.Sub(now)))
		}
		var rule strings.Builder
		writeWrapped(&rule, style, plain, "  ", text)
		b.WriteString(strings.Replace(rule.String(), name+" "+applies, name+" "+style.paint(c, applies), 1))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeWrapped writes a text behind its mark, in lines of the terminal's width that stand
// below each other. Without a width it is one line, as it is.
func writeWrapped(b *strings.Builder, style Style, ink color, mark, text string) {
	lines := []string{text}
	if style.Width > 0 {
		lines = wrap(text, max(style.Width-len(mark), minFlex))
	}
	for _, line := range lines {
		b.WriteString(mark + style.paint(ink, line) + "\n")
		mark = strings.Repeat(" ", len(mark))
	}
}

// container tells of the container that a process is in, as far as it is known.
func container(p *wire.Process) string {
	text := "in container "
	if p.ContainerName != "" {
		text += safetext.Field(p.ContainerName) + ", "
	}
	text += safetext.Field(p.Container)
	if p.ContainerImage != "" {
		text += ", image " + safetext.Field(p.ContainerImage)
	}
	if p.Pod != nil {
		text += ", pod " + safetext.Field(p.Pod.FullName())
	}
	return text
}

// fate says whether it is an orphan, and of a dead process how it ended. An orphan's age
// stops with its life.
func fate(x *wire.Explain, now time.Time, style Style) string {
	p := &x.Process
	var text strings.Builder
	if p.State == wire.StateDead {
		note, _ := noteOf(p, now)
		writeWrapped(&text, style, dim, "  ", note)
		if p.ExitedAt != nil {
			now = *p.ExitedAt
		}
	}
	if k := x.EndedBy; k != nil {
		writeWrapped(&text, style, yellow, "  ", safetext.Terminal("ended by "+aboutKill(k)+", "+k.KillID))
	}
	if p.Orphan == nil {
		return text.String() + "  no orphan\n"
	}
	note := orphanNote(p.Orphan, now)
	if p.State == wire.StateDead {
		note = "was " + note
	}
	writeWrapped(&text, style, verdictColor(p.Orphan.Verdict), "  ", note)
	return text.String()
}

// Kills prints what a pass of the rules did, or would do: a tree for each.
func Kills(w io.Writer, kills []wire.Kill, style Style) error {
	if len(kills) == 0 {
		_, err := fmt.Fprintln(w, "No rule has anything to end.")
		return err
	}
	for i := range kills {
		if err := oneKill(w, &kills[i], style); err != nil {
			return err
		}
	}
	return nil
}

// The widths of a name among what was killed, and of what stands beside it.
const (
	nameColumn    = 16
	minNameColumn = 7
	besideName    = 53
)

func oneKill(w io.Writer, k *wire.Kill, style Style) error {
	var b strings.Builder
	c := yellow
	if k.Outcome == wire.KillPartial {
		c = red
	}
	writeWrapped(&b, style, c, "", safetext.Terminal(aboutKill(k)))
	if k.Reason != "" {
		writeWrapped(&b, style, plain, "  because ", safetext.Terminal(k.Reason))
	}
	name := nameColumn
	if style.Width > 0 {
		name = max(min(style.Width-besideName, nameColumn), minNameColumn)
	}
	fmt.Fprintf(&b, "  %7s  %-*s %-17s %9s\n", "PID", name, "NAME", "OUTCOME", "MEMORY")
	for _, p := range k.Processes {
		comm := safetext.Name(p.Comm)
		if style.Width > 0 {
			comm = cut(comm, name)
		}
		line := fmt.Sprintf("  %7d  %s%s %-17s %9s", p.PID, comm, strings.Repeat(" ", max(name-displayWidth(comm), 0)),
			safetext.Terminal(strings.ReplaceAll(p.Outcome, "_", " ")), Memory(p.RSSBytes, p.SwapBytes))
		if p.Signal != "" {
			line += fmt.Sprintf("  %s, %s", safetext.Terminal(p.Signal), quantity.FormatDuration(time.Duration(p.WaitMS*float64(time.Millisecond))))
		}
		if p.Error != "" {
			line += "  " + safetext.Terminal(p.Error)
		}
		b.WriteString(cut(line, style.Width) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

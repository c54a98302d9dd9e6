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
		b.WriteString("  " + container(p) + "\n")
	}
	b.WriteString(fate(x, now, style))
	if len(x.Evidence) > 0 {
		b.WriteString("\nEvidence:\n")
		for _, line := range x.Evidence {
			b.WriteString("  - " + safetext.Terminal(line) + "\n")
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
		fmt.Fprintf(&b, "  %s %s: %s", safetext.Field(r.Name), style.paint(c, applies), safetext.Terminal(r.Why))
		if r.ActsAt != nil {
			fmt.Fprintf(&b, " (acts at %s, in %s)", r.ActsAt.Local().Format("2006-01-02 15:04:05"), quantity.FormatDuration(r.ActsAt.Sub(now)))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
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
		text += ", pod " + safetext.Field(p.Pod.Namespace+"/"+p.Pod.Name)
	}
	return text
}

// fate says whether it is an orphan, and of a dead process how it ended. An orphan's age
// stops with its life.
func fate(x *wire.Explain, now time.Time, style Style) string {
	p, text := &x.Process, ""
	if p.State == wire.StateDead {
		note, _ := noteOf(p, now)
		text = fmt.Sprintf("  %s\n", style.paint(dim, note))
		if p.ExitedAt != nil {
			now = *p.ExitedAt
		}
	}
	if k := x.EndedBy; k != nil {
		text += fmt.Sprintf("  %s\n", style.paint(yellow, safetext.Terminal("ended by "+aboutKill(k)+", "+k.KillID)))
	}
	if p.Orphan == nil {
		return text + "  no orphan\n"
	}
	note := orphanNote(p.Orphan, now)
	if p.State == wire.StateDead {
		note = "was " + note
	}
	return text + fmt.Sprintf("  %s\n", style.paint(verdictColor(p.Orphan.Verdict), note))
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

func oneKill(w io.Writer, k *wire.Kill, style Style) error {
	var b strings.Builder
	c := yellow
	if k.Outcome == wire.KillPartial {
		c = red
	}
	fmt.Fprintf(&b, "%s\n", style.paint(c, safetext.Terminal(aboutKill(k))))
	if k.Reason != "" {
		fmt.Fprintf(&b, "  because %s\n", safetext.Terminal(k.Reason))
	}
	fmt.Fprintf(&b, "  %7s  %-16s %-17s %9s\n", "PID", "NAME", "OUTCOME", "MEMORY")
	for _, p := range k.Processes {
		fmt.Fprintf(&b, "  %7d  %-16s %-17s %9s", p.PID, safetext.Name(p.Comm),
			safetext.Terminal(strings.ReplaceAll(p.Outcome, "_", " ")), Memory(p.RSSBytes, p.SwapBytes))
		if p.Signal != "" {
			fmt.Fprintf(&b, "  %s, %s", safetext.Terminal(p.Signal), quantity.FormatDuration(time.Duration(p.WaitMS*float64(time.Millisecond))))
		}
		if p.Error != "" {
			fmt.Fprintf(&b, "  %s", safetext.Terminal(p.Error))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

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
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// timeWidth is the width of the time and the type that an event's line begins with.
const timeWidth = len("2006-01-02 15:04:05.000  orphan  ")

// Event prints one event as a line that names pid, program and unit, and says what happened
// and why. Of orphans, verdicts, leaks and kills a short block follows: the reasons, the
// deciding one first, and the command that tells more.
func Event(w io.Writer, e *wire.Event, style Style) error {
	at := e.Time.Local().Format("2006-01-02 15:04:05.000")
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", style.paint(dim, at), style.paint(typeColor(e), fmt.Sprintf("%-6s", safetext.Terminal(e.Type))))
	indent := strings.Repeat(" ", timeWidth)
	for i, line := range style.lines(safetext.Terminal(about(e, style)), timeWidth) {
		if i > 0 {
			b.WriteString(indent)
		} else {
			b.WriteString("  ")
		}
		b.WriteString(line + "\n")
	}
	for _, text := range block(e) {
		for i, line := range style.lines(safetext.Terminal(text), timeWidth+2) {
			lead := "- "
			if i > 0 {
				lead = "  "
			}
			b.WriteString(style.paint(dim, indent+lead+line) + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// lines wraps text that begins at a column; a style without width keeps it whole.
func (s Style) lines(text string, column int) []string {
	if s.Width <= 0 {
		return []string{text}
	}
	return wrap(text, max(s.Width-column, minFlex))
}

// maxBlock is how many processes of a kill a block names.
const maxBlock = 8

// block is what is told below an event's line.
func block(e *wire.Event) (lines []string) {
	switch {
	case e.Kill != nil:
		return killBlock(e)
	case e.Leak != nil:
		for _, text := range e.Leak.Evidence {
			lines = append(lines, safetext.Terminal(text))
		}
		return append(lines, "see: abot-trace explain "+safetext.Field(e.Leak.ID))
	case e.Process == nil || e.Process.Orphan == nil || e.Type != wire.TypeOrphan && !changesVerdict(e):
		return nil
	}
	for _, text := range e.Process.Orphan.Evidence {
		lines = append(lines, safetext.Terminal(text))
	}
	return append(lines, fmt.Sprintf("see: abot-trace explain %d", e.Process.PID))
}

func killBlock(e *wire.Event) (lines []string) {
	k := e.Kill
	if k.Reason != "" {
		lines = append(lines, safetext.Terminal(k.Reason))
	}
	for i := range k.Processes[:min(len(k.Processes), maxBlock)] {
		p := &k.Processes[i]
		text := fmt.Sprintf("%d %s %s", p.PID, safetext.Name(p.Comm), strings.ReplaceAll(p.Outcome, "_", " "))
		if p.Signal != "" {
			text += fmt.Sprintf(" (%s, %s)", p.Signal, quantity.FormatDuration(time.Duration(p.WaitMS*float64(time.Millisecond))))
		}
		if p.RSSBytes != nil {
			text += ", " + Memory(p.RSSBytes, p.SwapBytes)
		}
		if p.Error != "" {
			text += ": " + safetext.Terminal(p.Error)
		}
		lines = append(lines, text)
	}
	if more := len(k.Processes) - maxBlock; more > 0 {
		lines = append(lines, "and "+quantity.Count(more, "process")+" more")
	}
	switch {
	case k.Leak != "":
		lines = append(lines, "see: abot-trace explain "+safetext.Field(k.Leak))
	case e.Process != nil:
		lines = append(lines, fmt.Sprintf("see: abot-trace explain %d", e.Process.PID))
	}
	return lines
}

// changesVerdict reports whether the event tells of another verdict, and not only that the
// one that was told is final.
func changesVerdict(e *wire.Event) bool {
	return e.Verdict != nil && e.Process != nil && e.Process.Orphan != nil && e.Verdict.Previous != e.Process.Orphan.Verdict
}

func typeColor(e *wire.Event) color {
	switch e.Type {
	case wire.TypeOrphan, wire.TypeVerdict:
		if e.Process != nil && e.Process.Orphan != nil {
			return verdictColor(e.Process.Orphan.Verdict)
		}
		return yellow
	case wire.TypeLeak:
		if e.Leak != nil {
			return verdictColor(e.Leak.Verdict)
		}
		return yellow
	case wire.TypeOOM, wire.TypeKill, wire.TypeLost:
		return red
	case wire.TypeTrust:
		return yellow
	case wire.TypeAlert:
		if e.Alert != nil && e.Alert.State == wire.AlertOK {
			return green
		}
		return red
	case wire.TypeSignal, wire.TypeCaught:
		return yellow
	default:
		return cyan
	}
}

// about says to whom what happened. The command gives way before what is said of it.
func about(e *wire.Event, style Style) string {
	p := e.Process
	what := happened(e)
	switch {
	case p == nil:
		return what
	case e.Type == wire.TypeFork && p.SpawnedBy != nil:
		return fmt.Sprintf("%d %s spawned %d", p.SpawnedBy.PID, safetext.Name(p.SpawnedBy.Comm), p.PID)
	}
	if where := unitOf(p); where != "" {
		what = strings.TrimSuffix("in "+where+": "+what, ": ")
	} else if what != "" {
		what = ": " + what
	}
	pid := strconv.Itoa(int(p.PID)) + " "
	command := Command(p)
	if style.Width > 0 {
		command = FitCommand(p.Cmdline, command, max(style.Width-timeWidth-len(pid)-displayWidth(what)-1, 2*minFlex))
	}
	if strings.HasPrefix(what, ":") || what == "" {
		return pid + command + what
	}
	return pid + command + " " + what
}

// unitOf is where a process ran: its container, or its unit; empty where that is not known.
func unitOf(p *wire.Process) string {
	where := cmp.Or(p.ContainerName, p.Container, p.Unit)
	if where == "" {
		return ""
	}
	return safetext.Field(where)
}

// happened says what happened, without to whom.
func happened(e *wire.Event) string {
	p := e.Process
	switch {
	case e.Type == wire.TypeLost && e.Lost != nil && e.Lost.Where == wire.LostFromHistory:
		return fmt.Sprintf("%d entries are missing from the history: the disk did not take them", e.Lost.Records)
	case e.Type == wire.TypeLost && e.Lost != nil:
		return fmt.Sprintf("%d records lost: lineage is inferred from a snapshot until it is made up", e.Lost.Records)
	case e.Type == wire.TypeResync && e.Resync != nil:
		return fmt.Sprintf("compared with the kernel (%s): %d processes found, %d vanished unseen", e.Resync.Reason, e.Resync.Found, e.Resync.Vanished)
	case e.Type == wire.TypeKill && e.Kill != nil:
		if reason := e.Kill.Reason; reason != "" {
			return aboutKill(e.Kill) + ": " + safetext.Terminal(reason)
		}
		return aboutKill(e.Kill)
	case e.Type == wire.TypeAlert && e.Alert != nil:
		return fmt.Sprintf("%s: %s", safetext.Field(e.Alert.Name), safetext.Terminal(e.Alert.Message))
	case e.Type == wire.TypeLeak && e.Leak != nil:
		return aboutLeak(e.Leak, e.Time)
	case e.Type == wire.TypeTrust && e.Trust != nil:
		return trust.Sentence(e.Trust)
	case p == nil:
		return ""
	}
	switch {
	case e.Type == wire.TypeExit:
		return Exit(p.Exit, p.PID, p.StartNS)
	case e.Type == wire.TypeSignal && e.Signal != nil:
		return aboutSignal(e.Signal, p)
	case e.Type == wire.TypeCaught && e.Caught != nil:
		return aboutSignal(e.Caught, p)
	case e.Type == wire.TypeVerdict && p.Orphan != nil && e.Verdict != nil:
		return verdictNote(p.Orphan, e.Verdict) + memoryNote(p)
	case e.Type == wire.TypeVerdict && e.Verdict != nil:
		return "another verdict"
	case e.Type == wire.TypeOrphan && p.Orphan != nil:
		return orphanNote(p.Orphan, e.Time) + memoryNote(p)
	case e.Type == wire.TypeOOM && e.OOM != nil && e.OOM.RSSBytes > 0:
		return fmt.Sprintf("chosen by the OOM killer, %s resident", Bytes(e.OOM.RSSBytes))
	case e.Type == wire.TypeOOM:
		return "chosen by the OOM killer"
	}
	return ""
}

// memoryNote is what a process, or an orphan's tree, holds.
func memoryNote(p *wire.Process) string {
	rss, swap := p.RSSBytes, p.SwapBytes
	if p.Orphan != nil && p.Orphan.Tree != nil {
		rss, swap = p.Orphan.Tree.RSSBytes, p.Orphan.Tree.SwapBytes
	}
	if rss == nil {
		return ""
	}
	return ", holds " + Memory(rss, swap)
}

// verdictNote tells what is held of an orphan now, and why.
func verdictNote(o *wire.Orphan, v *wire.VerdictChange) string {
	s := o.Verdict
	if v.Previous != o.Verdict {
		s += ", was " + v.Previous
	}
	if o.Provisional {
		s += ", still provisional"
	}
	return s + " (" + safetext.Terminal(v.Reason) + ")"
}

// aboutSignal says what p was sent, and by whom.
func aboutSignal(s *wire.Signal, p *wire.Process) string {
	effect := ""
	if s.Effect != "" {
		effect = ", " + s.Effect
	}
	switch by := s.Sender; {
	case by == nil:
		return s.Signal + " from the kernel" + effect
	case by.PID == p.PID && by.StartNS == p.StartNS:
		return s.Signal + " from itself" + effect
	}
	return fmt.Sprintf("%s from %d %s%s", s.Signal, s.Sender.PID, safetext.Name(s.Sender.Comm), effect)
}

func aboutKill(k *wire.Kill) string {
	counts := make(map[string]int)
	for _, p := range k.Processes {
		counts[p.Outcome]++
	}
	var parts []string
	for _, outcome := range []string{wire.OutcomeDied, wire.OutcomeWouldKill, wire.OutcomeZombie, wire.OutcomeUninterruptible,
		wire.OutcomeRefused, wire.OutcomeVanished, wire.OutcomeIdentityChanged} {
		if n := counts[outcome]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(outcome, "_", " ")))
		}
	}
	by := fmt.Sprintf("rule %s (%s)", k.Rule, k.Mode)
	if r := k.RequestedBy; r != nil {
		asked := fmt.Sprintf("asked for by %d %s of user %d", r.PID, safetext.Name(r.Comm), r.UID)
		if k.Rule == wire.RuleManual {
			by = "by hand"
		}
		by += ", " + asked
	}
	s := fmt.Sprintf("%s: %s: %s", by, k.Outcome, strings.Join(parts, ", "))
	if k.Leak != "" {
		s += " of leak " + safetext.Field(k.Leak)
		if k.Name != "" {
			s += " (" + safetext.Terminal(k.Name) + ")"
		}
	}
	if where := cmp.Or(k.ContainerName, k.Container, k.Unit); where != "" {
		s += " in " + safetext.Terminal(where)
	}
	if k.User != "" {
		s += ", user " + safetext.Terminal(k.User)
	}
	switch held := k.Bytes(); {
	case k.FreedBytes > 0:
		s += ", " + Bytes(k.FreedBytes) + " freed"
	case held > 0:
		s += ", " + Bytes(held)
	}
	return s
}

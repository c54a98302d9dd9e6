// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Event prints one event as a line, and an orphan's evidence below it.
func Event(w io.Writer, e *wire.Event, style Style) error {
	at := e.Time.Local().Format("2006-01-02 15:04:05.000")
	head := fmt.Sprintf("%s  %-6s  ", at, e.Type)
	text := cut(about(e), style.room(len(head)))
	if _, err := fmt.Fprintf(w, "%s  %s  %s\n", style.paint(dim, at), style.paint(typeColor(e), fmt.Sprintf("%-6s", e.Type)), text); err != nil {
		return err
	}
	if e.Type != wire.TypeOrphan && !changesVerdict(e) || e.Process == nil || e.Process.Orphan == nil {
		return nil
	}
	for _, line := range e.Process.Orphan.Evidence {
		if _, err := fmt.Fprintln(w, style.paint(dim, strings.Repeat(" ", len(head))+"- "+line)); err != nil {
			return err
		}
	}
	return nil
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

// about says what happened.
func about(e *wire.Event) string {
	switch {
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
		return fmt.Sprintf("%s: %s", e.Alert.Name, safetext.Terminal(e.Alert.Message))
	case e.Type == wire.TypeLeak && e.Leak != nil:
		return aboutLeak(e.Leak, e.Time)
	case e.Process == nil:
		return ""
	}
	p := e.Process
	who := fmt.Sprintf("%d %s", p.PID, Command(p))
	switch e.Type {
	case wire.TypeFork:
		if p.SpawnedBy != nil {
			return fmt.Sprintf("%d %s spawned %d", p.SpawnedBy.PID, safetext.Name(p.SpawnedBy.Comm), p.PID)
		}
	case wire.TypeExit:
		return fmt.Sprintf("%s: %s", who, Exit(p.Exit))
	case wire.TypeSignal:
		if e.Signal != nil {
			return aboutSignal(who, e.Signal)
		}
	case wire.TypeCaught:
		if e.Caught != nil {
			return aboutSignal(who, e.Caught)
		}
	case wire.TypeVerdict:
		switch {
		case p.Orphan != nil && e.Verdict != nil:
			return who + ": " + verdictNote(p.Orphan, e.Verdict)
		case e.Verdict != nil:
			return who + ": another verdict"
		}
	case wire.TypeOrphan:
		if p.Orphan != nil {
			return who + ": " + orphanNote(p.Orphan, e.Time)
		}
	case wire.TypeOOM:
		if e.OOM != nil && e.OOM.RSSBytes > 0 {
			return fmt.Sprintf("%s: chosen by the OOM killer, %s resident", who, Bytes(e.OOM.RSSBytes))
		}
		return who + ": chosen by the OOM killer"
	}
	return who
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

func aboutSignal(who string, s *wire.Signal) string {
	effect := ""
	if s.Effect != "" {
		effect = ", " + s.Effect
	}
	if s.Sender == nil {
		return fmt.Sprintf("%s: %s from the kernel%s", who, s.Signal, effect)
	}
	return fmt.Sprintf("%s: %s from %d %s%s", who, s.Signal, s.Sender.PID, safetext.Name(s.Sender.Comm), effect)
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
	if where := cmp.Or(k.Container, k.Unit); where != "" {
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

// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// screens are what the commands print about one host, with hostile names and long lines.
func screens(style Style) map[string]func(io.Writer) error {
	doc, list := server(), orphansOfLeaks()
	long := "its spawner, pid 179 (bash), was killed by SIGKILL, sent by pid 1 (bash), which had spawned it, 1.01s after the fork"
	x := &wire.Explain{Process: list[0], Evidence: []string{long, "長い理由長い理由長い理由長い理由長い理由長い理由長い理由長い理由"},
		Rules: []wire.ExplainRule{{Name: "stale-multiprocessing-workers", Why: long}, {Name: "large", Applies: true, Why: long}}}
	kill := wire.Kill{KillID: "b-1-k1", Rule: "stale", Mode: wire.ModeEnforce, Outcome: wire.KillPartial, Reason: long, Leak: "L0123456789ab", Name: hostile,
		FreedBytes: 3 << 30, Processes: []wire.Killed{{PID: 4194304, Comm: hostile, Outcome: wire.OutcomeDied, Signal: "SIGTERM", WaitMS: 2, RSSBytes: ptr(uint64(3) << 30)},
			{PID: 7, Comm: "worker", Outcome: wire.OutcomeUninterruptible}}}
	events := []wire.Event{{Time: now, Type: wire.TypeOrphan, Process: &list[0]}, {Time: now, Type: wire.TypeKill, Process: &list[1], Kill: &kill},
		{Time: now, Type: wire.TypeLeak, Leak: &leaks()[0]}}
	for i := range events {
		if o := events[i].Process; o != nil {
			o.Orphan.Evidence = []string{long}
		}
	}
	status := &wire.Status{Problems: []wire.StatusProblem{{What: long}, {What: "b"}, {What: "c"}, {What: "d"}}}
	return map[string]func(io.Writer) error{
		"1 orphans": func(w io.Writer) error { return Orphans(w, placed(list), now, style) },
		"2 leaks":   func(w io.Writer) error { return Leaks(w, leaks(), now, style) },
		"3 tree": func(w io.Writer) error {
			return Tree(w, doc, TreeOptions{Style: style, Fold: true})
		},
		"4 explain": func(w io.Writer) error { return Explain(w, x, now, style) },
		"5 events": func(w io.Writer) error {
			for i := range events {
				if err := Event(w, &events[i], style); err != nil {
					return err
				}
			}
			return nil
		},
		"6 kills":  func(w io.Writer) error { return Kills(w, []wire.Kill{kill}, style) },
		"7 alerts": func(w io.Writer) error { _, err := Alerts(w, status, style); return err },
	}
}

// Golden screens of the commands at three widths; no line is wider than the terminal.
func TestScreens(t *testing.T) {
	here := time.Local
	time.Local = time.UTC // events are told in local time
	t.Cleanup(func() { time.Local = here })
	for _, width := range []int{60, 80, 120} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			all := screens(Style{Width: width})
			var b bytes.Buffer
			for _, name := range []string{"1 orphans", "2 leaks", "3 tree", "4 explain", "5 events", "6 kills", "7 alerts"} {
				var screen bytes.Buffer
				if err := all[name](&screen); err != nil {
					t.Fatal(err)
				}
				harmless(t, screen.String(), false)
				for line := range strings.Lines(screen.String()) {
					if got := displayWidth(strings.TrimSuffix(line, "\n")); got > width {
						t.Errorf("%s: %d columns: %q", name, got, line)
					}
				}
				fmt.Fprintf(&b, "== %s\n%s", name, screen.Bytes())
			}
			golden(t, b.Bytes())
		})
	}
}

// What is worth seeing of 2,000 processes fits a screen of 24 rows: all that leaked, with
// their ancestors, however late they come.
func TestTreeOfThousandsOnOneScreen(t *testing.T) {
	doc := server()
	left := slices.Clone(doc.Processes[len(doc.Processes)-3:])
	doc.Processes = doc.Processes[:len(doc.Processes)-3]
	for i := range 2000 {
		pid := int32(1000 + i)
		doc.Processes = append(doc.Processes, wire.Process{PID: pid, StartNS: uint64(pid), Comm: "job", Cmdline: []string{"job", fmt.Sprint(i)}, User: "root",
			State: wire.StateRunning, SpawnedBy: &wire.Ref{PID: 1, StartNS: 1}, RSSBytes: ptr(uint64(1) << 40)})
	}
	doc.Processes = append(doc.Processes, left...)
	var b bytes.Buffer
	if err := Tree(&b, doc, TreeOptions{Style: Style{Width: 80}, Rows: 19, Fold: true}); err != nil {
		t.Fatal(err)
	}
	if rows := strings.Count(b.String(), "\n"); rows > 24 || !strings.Contains(b.String(), "3 × python3") || !strings.Contains(b.String(), " systemd\n") {
		t.Errorf("%d rows, want the three that leaked below systemd:\n%s", rows, b.String())
	}
}

// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// leaks are an open one with members, one that was ended by a rule, and one whose leaker
// calls itself what should fool a terminal.
func leaks() []wire.Leak {
	killed := &wire.Exit{Signal: "SIGKILL", KilledBy: &wire.Ref{PID: 99, Comm: "bash"}}
	return []wire.Leak{
		{ID: "L0123456789ab", State: wire.LeakStateOpen, Fingerprint: "F00112233445566", Name: "/usr/bin/python3 train.py --port <port>",
			Program: "train.py", Verdict: wire.VerdictLeaked, Evidence: []string{"the leaker was killed by bash[99]"},
			Leaker: wire.LeakLeaker{PID: 20, Comm: "python3", Cmdline: []string{"python3", "train.py", "--port", "4711"}, User: "bob",
				Unit: "train.service", Exit: killed},
			OpenedAt: *ago(2 * time.Hour), Processes: wire.LeakCount{Now: 2, Peak: 3, Total: 3},
			RSSBytes: ptr(uint64(3) << 30), SwapBytes: ptr(uint64(1) << 30), PeakBytes: ptr(uint64(5) << 30),
			ByteSeconds: ptr(float64(uint64(8)<<30) * 3600), CPUSeconds: ptr(90.0),
			Members: []wire.LeakMember{
				{PID: 21, Comm: "python3", Cmdline: []string{"python3", "-c", "from multiprocessing import spawn"}, Verdict: wire.VerdictLeaked, Direct: true},
				{PID: 22, Comm: "node", Verdict: wire.VerdictUnknown}},
			Remedy: &wire.Remedy{Kind: "kill_mode", Text: "KillMode=mixed in the unit has systemd end what its main process leaves behind",
				Link: "docs/prevention.md#a-systemd-unit"}},
		{ID: "Lba9876543210", State: wire.LeakStateEnded, Name: "gunicorn", Program: "gunicorn", Verdict: wire.VerdictUnknown,
			Leaker: wire.LeakLeaker{PID: 30, Comm: "gunicorn", User: "www-data", Container: "0123456789ab"}, OpenedAt: *ago(time.Hour),
			EndedAt: ago(time.Minute), EndedBy: "kill", KillIDs: []string{"b-1-k1"}, Processes: wire.LeakCount{Peak: 4, Total: 5}},
		{ID: "Lffffffffffff", State: wire.LeakStateOpen, Name: hostile, Program: hostile, Verdict: wire.VerdictUnknown, Evidence: []string{hostile},
			Leaker:   wire.LeakLeaker{PID: 40, Comm: hostile, Cmdline: []string{hostile}, User: hostile, Unit: hostile, Container: hostile},
			OpenedAt: *ago(time.Second), Processes: wire.LeakCount{Now: 1, Peak: 1, Total: 1},
			Members: []wire.LeakMember{{PID: 41, Comm: hostile, Cmdline: []string{hostile}, Verdict: wire.VerdictUnknown}}},
	}
}

func TestLeaks(t *testing.T) {
	list := leaks()
	at := *ago(time.Minute)
	groups := []wire.LeakGroup{{Key: "train.py", Leaks: 3, Open: 1, Processes: 2, RSSBytes: 3 << 30, ByteSeconds: float64(uint64(9)<<30) * 3600,
		CPUSeconds: 120, LastAt: at, Verdicts: map[string]int{wire.VerdictLeaked: 2, wire.VerdictUnknown: 1}}, {Key: hostile, Leaks: 1, LastAt: at}}
	for name, print := range map[string]func(w io.Writer) error{
		"all":         func(w io.Writer) error { return Leaks(w, list, now, Style{}) },
		"wide":        func(w io.Writer) error { return Leaks(w, list, now, Style{Width: 80, Wide: true}) },
		"80 columns":  func(w io.Writer) error { return Leaks(w, list, now, Style{Width: 80}) },
		"40 columns":  func(w io.Writer) error { return Leaks(w, list, now, Style{Width: 40}) },
		"60 columns":  func(w io.Writer) error { return Leaks(w, list, now, Style{Width: 60}) },
		"120 columns": func(w io.Writer) error { return Leaks(w, list, now, Style{Width: 120}) },
		"chosen": func(w io.Writer) error {
			return Leaks(w, list, now, Style{Width: 80, Columns: []string{"left-by", "FINGERPRINT", "leak"}})
		},
		"none":        func(w io.Writer) error { return Leaks(w, nil, now, Style{}) },
		"by program":  func(w io.Writer) error { return LeakGroups(w, "program", groups, now, Style{}) },
		"one narrow":  func(w io.Writer) error { return Leak(w, &list[0], now, Style{Width: 50}) },
		"one":         func(w io.Writer) error { return Leak(w, &list[0], now, Style{}) },
		"one ended":   func(w io.Writer) error { return Leak(w, &list[1], now, Style{}) },
		"one hostile": func(w io.Writer) error { return Leak(w, &list[2], now, Style{}) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := print(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, b.Bytes())
		})
	}
}

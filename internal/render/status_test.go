// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestStatus(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	s := &wire.Status{Host: "h1", Version: "1.2.3", State: wire.StatusUnwell,
		Problems: []wire.StatusProblem{{What: "no rule ends anything while /run/abot-trace/stop exists: a \x1b[31mlong\nreason", Hint: "abot-trace start-rules"}},
		Stream:   wire.StatusStream{PID: 812, StartedAt: *ago(76 * time.Hour), SeenAt: ago(2 * time.Second), Processes: 412, Orphans: 1},
		Rules: []wire.StatusRule{{Name: "stale-workers", Mode: "enforce", Action: "kill", Kills: 3},
			{Name: "unknown-and-large", Mode: "observe", Action: "kill", WouldKill: 7}, {Name: "tell", Mode: "observe", Action: "notify"}},
		Stop: &wire.Stop{Path: "/run/abot-trace/stop", InForce: true, Since: ago(time.Minute)}, Leaks: wire.StatusLeaks{Open: 2, Leaked: 1, Processes: 7, RSSBytes: 300 << 20},
		Hold: &wire.StatusHold{After: "loss of records", Until: now.Add(42 * time.Second)},
		Decided: wire.StatusDecided{Suspended: 1, Ignored: 2, Acked: 5, List: []wire.Trust{
			{Kind: wire.TrustSuspend, Fingerprint: "F000000000001", Rule: "workers", Reason: "its victims came back"},
			{Kind: wire.TrustIgnore, Fingerprint: "F000000000002", Reason: "hostile \x1b[31m\n", By: &wire.TrustBy{User: "bob"}},
			{Kind: wire.TrustIgnore, Fingerprint: "F000000000003", Reason: "b", By: &wire.TrustBy{}},
			{Kind: wire.TrustAck, Fingerprint: "F000000000004", Reason: "c", Until: &now}, {Kind: wire.TrustAck, Fingerprint: "F000000000005", Reason: "d", Until: &now},
			{Kind: wire.TrustAck, Fingerprint: "F000000000006", Reason: "e", Until: &now}, {Kind: wire.TrustAck, Fingerprint: "F000000000007", Reason: "not shown", Until: &now}}},
		History:  &wire.StatusHistory{Lost: 3, Stream: wire.StatusKept{Since: ago(50 * time.Hour), Bytes: 40 << 20, LimitBytes: 512 << 20}},
		Notices:  []wire.StatusNotices{{Target: "journald", Delivered: 12}, {Target: "webhook[0]", Delivered: 3, Failed: 1}},
		LastKill: &wire.StatusKill{Time: *ago(2 * time.Hour), Kill: wire.Kill{KillID: "b-k1", Rule: "stale-workers", Mode: "enforce", Outcome: wire.KillDone, FreedBytes: 40 << 20, Processes: []wire.Killed{{Outcome: wire.OutcomeDied}}}}}
	for _, width := range []int{0, 60, 80, 120} {
		var b strings.Builder
		if err := Status(&b, s, now, Style{Width: width}); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "\x1b") {
			t.Errorf("hostile: %q", b.String())
		}
		for line := range strings.Lines(b.String()) {
			if n := displayWidth(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
				t.Errorf("at %d: a line of %d columns: %s", width, n, line)
			}
		}
		if width != 60 {
			continue
		}
		want := `abot-trace on h1: 1 problem
daemon     1.2.3, pid 812, up 3d4h
stream     alive 2s ago, no record lost; 412 processes, 1
           orphan
rules      1 armed: stale-workers (ended 3); 1 observing:
           unknown-and-large (would have ended 7); 1
           notifying: tell
stop file  /run/abot-trace/stop is there, since 1m: no rule
           ends anything
held       no rule ends anything for another 42s, after a
           loss of records
leaks      2 open, 1 of them leaked: 7 processes hold 300
           MiB
decided    rule workers is suspended for leaks of
           F000000000001: its victims came back
           leaks of F000000000002 are ignored: no rule ends
           them, says bob: hostile \x1b[31m\n
           leaks of F000000000003 are ignored: no rule ends
           them, says user 0: b
           leaks of F000000000004 are known until 2026-11-29
           12:00 UTC: nobody is sent a notice, says the
           daemon: c
           leaks of F000000000005 are known until 2026-11-29
           12:00 UTC: nobody is sent a notice, says the
           daemon: d
           leaks of F000000000006 are known until 2026-11-29
           12:00 UTC: nobody is sent a notice, says the
           daemon: e
           and 2 more: abot-trace leaks export lists them
history    2d2h back, 40 MiB of 512 MiB, 3 entries lost
notices    journald: 12 delivered
           webhook[0]: 3 delivered, 1 failed
last kill  2h ago, rule stale-workers (enforce): done: 1
           died, 40 MiB freed (b-k1)
problem    no rule ends anything while /run/abot-trace/stop
           exists: a \x1b[31mlong\nreason
           abot-trace start-rules
`
		if got := b.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestHistory(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	since, perDay, left := now.Add(-48*time.Hour), float64(20<<20), float64(23*86400)
	h := &wire.StatusHistory{Lost: 3, Damaged: 1, SetAside: 2, Error: "no\x1broom",
		Stream:  wire.StatusKept{Since: &since, Until: &now, Bytes: 40 << 20, LimitBytes: 500 << 20, LimitAge: 30 * 86400, BytesPerDay: &perDay, SecondsLeft: &left},
		Notable: wire.StatusKept{LimitBytes: 64 << 20, LimitAge: 90 * 86400}}
	var b strings.Builder
	if err := History(&b, h, now, Style{}); err != nil {
		t.Fatal(err)
	}
	want := "stream     since " + since.Local().Format(time.DateTime) + ` (2d); 40 MiB of 500 MiB, at most 30d; 20 MiB a day, full in 23d
notable    nothing is kept yet; 0 B of 64 MiB, at most 90d
lost       3 entries that the disk did not take, 1 that it did not give back
set aside  2 segments of no use: damaged, or another machine's
problem    no\x1broom
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 10, ""},
		{"a bc def", 4, "a bc|def"},
		{"abcdefgh ij", 4, "abcd|efgh|ij"},
		{"漢字漢字 x", 5, "漢字|漢字|x"},
		{"漢", 1, ""},
	} {
		if got := strings.Join(wrap(test.text, test.width), "|"); got != test.want && test.width > 1 {
			t.Errorf("%q in %d: got %q, want %q", test.text, test.width, got, test.want)
		}
	}
}

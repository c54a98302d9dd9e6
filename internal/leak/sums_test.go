// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestSum(t *testing.T) {
	at := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	leakOf := func(program, user string, bytes uint64, held float64, state string) wire.Leak {
		cpu := held / 10
		return wire.Leak{Program: program, Leaker: wire.LeakLeaker{Comm: "python3", User: user}, State: state, OpenedAt: at,
			Verdict: wire.VerdictLeaked, RSSBytes: &bytes, ByteSeconds: &held, CPUSeconds: &cpu, Processes: wire.LeakCount{Total: 2}}
	}
	list := []wire.Leak{
		leakOf("a.py", "bob", 10, 100, wire.LeakStateOpen),
		leakOf("a.py", "eve", 20, 200, wire.LeakStateEnded),
		leakOf("b.py", "bob", 5, 1000, wire.LeakStateOpen),
		leakOf("", "bob", 1, 1, wire.LeakStateOpen),
	}
	list[2].Verdict, list[2].OpenedAt, list[2].Rules = wire.VerdictUnknown, at.Add(time.Hour), []string{"old", "large"}
	want := []wire.LeakGroup{
		{Key: "b.py", Leaks: 1, Open: 1, Processes: 2, RSSBytes: 5, ByteSeconds: 1000, CPUSeconds: 100, LastAt: at.Add(time.Hour), Verdicts: map[string]int{"unknown": 1}},
		{Key: "a.py", Leaks: 2, Open: 1, Processes: 4, RSSBytes: 10, ByteSeconds: 300, CPUSeconds: 30, LastAt: at, Verdicts: map[string]int{"leaked": 2}},
		{Key: "python3", Leaks: 1, Open: 1, Processes: 2, RSSBytes: 1, ByteSeconds: 1, CPUSeconds: 0.1, LastAt: at, Verdicts: map[string]int{"leaked": 1}},
	}
	if diff := cmp.Diff(want, Sum(list, "program")); diff != "" {
		t.Errorf("by program (-want +got):\n%s", diff)
	}
	for by, want := range map[string]int{"user": 2, "rule": 2, "unit": 1, "container": 1, "leaker": 1, "nonsense": 0} {
		if got := len(Sum(list, by)); got != want {
			t.Errorf("by %s: %d groups, want %d", by, got, want)
		}
	}
}

func TestWithin(t *testing.T) {
	at := func(h int) time.Time { return time.Date(2026, 11, 29, h, 0, 0, 0, time.UTC) }
	end := at(5)
	list := []wire.Leak{{ID: "open", OpenedAt: at(3)}, {ID: "ended", OpenedAt: at(1), EndedAt: &end}}
	for _, tt := range []struct {
		since, until time.Time
		want         string
	}{
		{time.Time{}, time.Time{}, "open ended "},
		{at(6), time.Time{}, "open "},
		{at(4), at(4), "open ended "},
		{time.Time{}, at(2), "ended "},
		{time.Time{}, at(0), ""},
	} {
		got := ""
		for _, l := range Within(list, tt.since, tt.until) {
			got += l.ID + " "
		}
		if got != tt.want {
			t.Errorf("since %v until %v: %q, want %q", tt.since, tt.until, got, tt.want)
		}
	}
}

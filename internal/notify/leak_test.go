// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestLeakSummary(t *testing.T) {
	peak := uint64(3 << 30)
	for _, tt := range []struct {
		name   string
		change func(*wire.Leak)
		want   string
	}{
		{"opened", func(l *wire.Leak) {
			l.Change, l.Evidence, l.Leaker.PID = wire.LeakOpened, []string{"it was killed", "more"}, 7
			l.Leaker.Exit = &wire.Exit{Signal: "SIGKILL", KilledBy: &wire.Ref{PID: 9, Comm: "ba\nsh"}}
		}, `leak L1 of x, left by pid 7 (SIGKILL by 9 (ba\nsh)): leaked, it was killed: 2 processes, 3 GiB; see abot-trace explain L1`},
		{"members", func(l *wire.Leak) { l.Change = wire.LeakMembers },
			"leak L1 of x: 2 processes, 3 GiB; see abot-trace explain L1"},
		{"another verdict", func(l *wire.Leak) { l.Change, l.Previous = wire.LeakVerdict, wire.VerdictUnknown },
			"leak L1 of x is leaked, was unknown: 2 processes, 3 GiB; see abot-trace explain L1"},
		{"threshold", func(l *wire.Leak) { l.Change, l.Threshold = wire.LeakThreshold, "age" },
			"leak L1 of x passes the threshold of its age: 2 processes, 3 GiB; see abot-trace explain L1"},
		{"ended", func(l *wire.Leak) {
			l.Change, l.State, l.EndedBy, l.EndedNS = wire.LeakEnded, wire.LeakStateEnded, "kill", uint64(90*time.Second)
		}, "leak L1 of x has ended by a kill after 1m30s: 5 processes, 3 GiB at most"},
		{"ended as deliberate", func(l *wire.Leak) {
			l.Change, l.State, l.PeakBytes = wire.LeakEnded, wire.LeakStateEnded, nil
		}, "leak L1 of x has ended after 0s: 5 processes"},
		{"hostile", func(l *wire.Leak) {
			l.Change, l.Name, l.Leaker.Container, l.Leaker.User = wire.LeakMembers, "a\x1b[31m\nb", "c\u202ed", "u\n"
		}, `leak L1 of a\x1b[31m\nb in c\u202ed (user u\n): 2 processes, 3 GiB; see abot-trace explain L1`},
	} {
		l := &wire.Leak{ID: "L1", State: wire.LeakStateOpen, Name: "x", Verdict: wire.VerdictLeaked, PeakBytes: &peak,
			Processes: wire.LeakCount{Now: 2, Peak: 3, Total: 5}}
		tt.change(l)
		if got := LeakSummary(l); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
		if strings.ContainsAny(LeakSummary(l), "\x1b\n\u202e") {
			t.Errorf("%s: not escaped", tt.name)
		}
	}
}

// TestWhoIsTold: people are told of leaks as a whole, of orphans where they ask for each, and of
// no members that come and go.
func TestWhoIsTold(t *testing.T) {
	changed := func(change string) *Event { return &Event{Type: wire.TypeLeak, Leak: &wire.Leak{Change: change}} }
	orphan := &Event{Type: wire.TypeOrphan}
	for _, tt := range []struct {
		name   string
		events []string
		e      *Event
		want   bool
	}{
		{"opened", []string{"leak"}, changed(wire.LeakOpened), true},
		{"threshold", []string{"leak"}, changed(wire.LeakThreshold), true},
		{"ended", []string{"leak"}, changed(wire.LeakEnded), true},
		{"members", []string{"leak"}, changed(wire.LeakMembers), false},
		{"verdict", nil, changed(wire.LeakVerdict), false},
		{"an orphan", []string{"leak", "kill"}, orphan, false},
		{"an orphan that is asked for", []string{"orphan"}, orphan, true},
		{"all", nil, orphan, true},
	} {
		w, x := Webhook{Events: tt.events}, Exec{Events: tt.events}
		if w.Wants(SeverityWarning, tt.e) != tt.want || x.Wants(SeverityWarning, tt.e) != tt.want {
			t.Errorf("%s: want %v", tt.name, tt.want)
		}
		if w.MinSeverity = SeverityCritical; w.Wants(SeverityWarning, tt.e) {
			t.Errorf("%s: below the severity", tt.name)
		}
	}
}

// TestLeaksHaveAQuota: nobody fills the journal with leaks.
func TestLeaksHaveAQuota(t *testing.T) {
	uid := uint32(1000)
	var q quota
	told := 0
	for range 100 {
		if q.admit(&Event{Type: wire.TypeLeak, Leak: &wire.Leak{Leaker: wire.LeakLeaker{UID: &uid, User: "bob", Comm: "x"}}}, 10) {
			told++
		}
	}
	if told != 10 {
		t.Errorf("%d of 100 are told, want 10", told)
	}
	if d := q.digest(); len(d) != 1 || d[0].User != "bob" || d[0].LeftOut != 90 {
		t.Errorf("%+v", d)
	}
}

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

// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
)

// Whatever happens in whatever order: the counts are those of the members, each leak is
// opened once and ended once, and nothing is left when all processes are gone.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New("b", 0)
		s.SetThresholds(Thresholds{Memory: 50, Age: 3e9})
		now, opened, ended := t0, map[string]int{}, map[string]int{}
		tell := func() {
			for _, c := range s.Due(now) {
				switch c.Kind {
				case Opened:
					opened[c.Leak.ID]++
				case Ended:
					ended[c.Leak.ID]++
				}
			}
		}
		before := map[string]Counts{}
		count := func() {
			now := s.Programs(now)
			for name, c := range now {
				b := before[name]
				if c.ByteSeconds < b.ByteSeconds || c.CPUSeconds < b.CPUSeconds || c.Opened < b.Opened {
					t.Fatalf("%s: %+v after %+v", name, c, b)
				}
			}
			before = now
		}
		pid := func(name string) event.ID { return id(rapid.Int32Range(1, 12).Draw(t, name)) }
		seen := map[event.ID]bool{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += uint64(rapid.IntRange(0, 2000).Draw(t, "ms")) * ms
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				o := Orphan{ID: pid("orphan"), Leaker: id(int32(100 + rapid.IntRange(0, 3).Draw(t, "leaker"))), Since: now,
					Verdict: Verdict(rapid.IntRange(0, 2).Draw(t, "verdict")), Provisional: rapid.Bool().Draw(t, "provisional")}
				leaker := Leaker{Comm: []string{"a", "b", "other"}[o.Leaker.PID%3]}
				o.Describe = func() Leaker { return leaker }
				seen[o.ID] = true
				if rapid.Bool().Draw(t, "below") {
					o.Descendants = []event.ID{pid("descendant")}
				}
				s.Judge(o, now)
			case 1:
				s.Fork(pid("parent"), pid("child"), now)
			case 2:
				s.Exit(Exit{ID: pid("dead"), Time: now, Ending: Ending(rapid.IntRange(1, 4).Draw(t, "ending")), CPU: 7})
			case 3:
				s.Sample([]Usage{{ID: pid("used"), RSS: 40, Swap: 20, CPU: 9}}, now)
			case 4:
				s.Kill("k", "r", []event.ID{pid("killed")})
			case 5:
				tell()
			}
			check(t, s)
			count()
		}
		for _, m := range s.members {
			s.Exit(Exit{ID: m.id, Time: now, Ending: ByExit})
		}
		now += 20 * sec
		tell()
		if len(s.open) != 0 || len(s.members) != 0 || s.Next() != 0 {
			t.Fatalf("left: %d open, %d members, next at %d", len(s.open), len(s.members), s.Next())
		}
		for id, n := range opened {
			// The leaker's identity is drawn from few: a second leak of it has the same id.
			if ended[id] != n {
				t.Fatalf("%s was opened %d times and ended %d times", id, n, ended[id])
			}
		}
	})
}

func check(t *rapid.T, s *Set) {
	in := 0
	for leaker, l := range s.open {
		settled, leaked := 0, 0
		for id, m := range l.members {
			if s.members[id] != m || m.leak != l {
				t.Fatalf("%v is in two leaks", id)
			}
			if !m.pending {
				settled++
				if m.verdict == Leaked {
					leaked++
				}
			}
		}
		if l.Now != len(l.members) || l.Total < l.Now || l.settled != settled || l.leaked != leaked || !l.Open() {
			t.Fatalf("leak of %v: now %d of %d members, total %d, settled %d of %d, leaked %d of %d",
				leaker, l.Now, len(l.members), l.Total, l.settled, settled, l.leaked, leaked)
		}
		in += l.Now
	}
	if in != len(s.members) {
		t.Fatalf("%d members in leaks, %d known", in, len(s.members))
	}
}

func BenchmarkOpen10000(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		s := New("b", 0)
		for i := int32(1); i <= 10000; i++ {
			s.Judge(Orphan{ID: id(100000 + i), Leaker: id(i), Since: t0, Verdict: Leaked}, t0)
		}
		if got := len(s.Due(t0 + 2*sec)); got != 10000 {
			b.Fatal(got)
		}
	}
}

func BenchmarkThousandOfOne(b *testing.B) {
	for b.Loop() {
		s := New("b", 0)
		for i := int32(1); i <= 1000; i++ {
			s.Judge(Orphan{ID: id(100000 + i), Leaker: id(1), Since: t0, Verdict: Leaked}, t0)
		}
		s.Due(t0 + 2*sec)
	}
}

func BenchmarkSample10000(b *testing.B) {
	s := New("b", 0)
	usage := make([]Usage, 10000)
	for i := range usage {
		s.Judge(Orphan{ID: id(int32(100001 + i)), Leaker: id(int32(i + 1)), Since: t0, Verdict: Leaked}, t0)
		usage[i] = Usage{ID: id(int32(100001 + i)), RSS: 1 << 20}
	}
	now := t0
	for b.Loop() {
		now += sec
		s.Sample(usage, now)
	}
}

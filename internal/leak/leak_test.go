// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/event"
)

const (
	ms  = uint64(time.Millisecond)
	sec = uint64(time.Second)
	t0  = 1000 * sec
)

func id(pid int32) event.ID { return event.ID{PID: pid, Start: uint64(pid)} }

// script drives a set and collects what is told.
type script struct {
	*Set
	t     *testing.T
	now   uint64
	lines []string
}

func newScript(t *testing.T) *script {
	return &script{Set: New("boot", 4), t: t, now: t0}
}

// at moves on to ms milliseconds after the beginning, and tells what is due on the way.
func (s *script) at(after uint64) *script {
	target := t0 + after*ms
	for next := s.Next(); next != 0 && next <= target; next = s.Next() {
		s.now = max(s.now, next)
		s.tell()
	}
	s.now = target
	return s
}

func (s *script) tell() {
	for _, c := range s.Due(s.now) {
		line := c.Kind.String() + " " + c.Leak.Verdict.String()
		switch c.Kind {
		case Ended:
			line += " by " + c.Leak.EndedBy.String()
		case ThresholdPassed:
			line += " " + c.Threshold
		}
		s.lines = append(s.lines, line)
	}
}

func (s *script) orphan(pid, leaker int32, v Verdict, provisional bool) *script {
	s.Judge(Orphan{ID: id(pid), Leaker: id(leaker), Since: s.now, Direct: true, Verdict: v, Provisional: provisional,
		Describe: func() Leaker { return Leaker{Comm: "leaker"} }}, s.now)
	return s
}

func (s *script) fork(parent, child int32) *script { s.Fork(id(parent), id(child), s.now); return s }

func (s *script) exit(pid int32, e Ending) *script {
	s.Exit(Exit{ID: id(pid), Time: s.now, Ending: e})
	return s
}

func (s *script) want(lines ...string) {
	s.t.Helper()
	s.tell()
	if diff := cmp.Diff(lines, s.lines); diff != "" {
		s.t.Errorf("told (-want +got):\n%s", diff)
	}
	s.lines = nil
}

func TestScripts(t *testing.T) {
	t.Run("one death is told once, however many it left", func(t *testing.T) {
		s := newScript(t)
		for pid := int32(10); pid < 210; pid++ {
			s.orphan(pid, 1, Leaked, false)
		}
		s.at(999).want()
		s.at(1000).want("opened leaked")
		l := s.Open()[0]
		if l.Now != 200 || l.Peak != 200 || l.Total != 200 || l.Leaker.Comm != "leaker" {
			t.Errorf("%+v", l)
		}
		for pid := int32(10); pid < 210; pid++ {
			s.exit(pid, ByExit)
		}
		s.at(2000).want("ended leaked by exit")
		if s.Get(l.ID) != l || len(s.Ended()) != 1 || len(s.members) != 0 || s.Next() != 0 {
			t.Error("not remembered as it should be")
		}
	})
	t.Run("a daemon that goes into the background opens nothing", func(t *testing.T) {
		s := newScript(t)
		s.orphan(2, 1, Unknown, true).at(5)
		s.fork(2, 3).exit(2, ByExit).orphan(3, 2, Unknown, true).at(50)
		s.orphan(3, 2, Deliberate, false).at(5000).want()
		if len(s.open)+len(s.members)+len(s.ended) != 0 {
			t.Error("something is left of it")
		}
	})
	t.Run("who is gone before he is judged was none", func(t *testing.T) {
		s := newScript(t)
		s.orphan(2, 1, Unknown, true).at(200).exit(2, ByExit).at(5000).want()
	})
	t.Run("a kill cuts the gathering short", func(t *testing.T) {
		s := newScript(t)
		s.orphan(2, 1, Leaked, false).at(3)
		if leaks := s.Kill("k1", "r", []event.ID{id(2), id(77)}); len(leaks) != 1 || leaks[0].KillIDs[0] != "k1" {
			t.Errorf("leaks of the kill: %+v", leaks)
		}
		s.want("opened leaked")
		s.exit(2, ByKill).at(100).want("ended leaked by kill")
	})
	t.Run("deaths inside open no other", func(t *testing.T) {
		s := newScript(t)
		s.orphan(2, 1, Unknown, false).fork(2, 3).fork(3, 4).at(1000).want("opened unknown")
		s.exit(2, BySignal)
		s.Judge(Orphan{ID: id(3), Leaker: id(2), Since: s.now, Verdict: Leaked, Descendants: []event.ID{id(4)}}, s.now)
		s.at(1200).want("verdict leaked")
		if !s.Inside(id(2)) || s.Of(id(4)) != s.Open()[0] || len(s.Open()) != 1 {
			t.Error("not inside")
		}
		s.exit(3, ByKill).exit(4, ByExit).at(3000).want("ended leaked by mixed")
	})
	t.Run("who proves deliberate leaves with what it forked", func(t *testing.T) {
		s := newScript(t)
		s.orphan(2, 1, Unknown, false).orphan(3, 1, Leaked, false).fork(2, 4).fork(4, 5).at(1000).want("opened leaked")
		s.orphan(2, 1, Deliberate, false)
		if l := s.Open()[0]; l.Now != 1 || l.Total != 1 || s.Of(id(5)) != nil {
			t.Errorf("%d now, %d in all", l.Now, l.Total)
		}
		s.exit(3, ByOOM).at(2000).want("ended leaked by oom")
		// And its own death later opens another.
		s.at(3000).orphan(4, 2, Leaked, false).at(4000).want("opened leaked")
	})
	t.Run("a child that is told after its parent's end", func(t *testing.T) {
		s := newScript(t)
		s.orphan(2, 1, Leaked, false).at(1000).exit(2, ByExit).at(1010).orphan(3, 2, Leaked, false).at(2000)
		s.want("opened leaked")
		s.exit(3, ByExit).at(2500).want("ended leaked by exit")
	})
	t.Run("members are told every ten seconds, thresholds once", func(t *testing.T) {
		s := newScript(t)
		s.SetThresholds(Thresholds{Age: 30 * time.Second, Memory: 100})
		s.orphan(2, 1, Leaked, false).at(1000).want("opened leaked")
		for i := uint64(0); i < 18; i++ {
			s.at(1100+i*1000).fork(2, int32(100+i))
		}
		s.want("members leaked")
		s.Sample([]Usage{{ID: id(2), RSS: 60, Swap: 41}}, s.now)
		s.want("threshold leaked memory")
		s.Sample([]Usage{{ID: id(2), RSS: 60, Swap: 80}}, s.now)
		s.at(60000).want("members leaked", "threshold leaked age")
		if l := s.Open()[0]; l.PeakBytes != 140 || l.RSS != 60 {
			t.Errorf("%+v", l)
		}
	})
	t.Run("a leak of which all proved deliberate", func(t *testing.T) {
		s := newScript(t)
		s.orphan(2, 1, Unknown, false).at(1500).want("opened unknown")
		s.orphan(2, 1, Deliberate, false).at(3000).want("ended unknown by ")
	})
}

// What a leak costs is the integral over the samples, exact at the edges.
func TestCost(t *testing.T) {
	s := newScript(t)
	s.orphan(2, 1, Leaked, false).fork(2, 3)
	s.at(100).Sample([]Usage{{ID: id(2), RSS: 1000, CPU: 5 * sec}, {ID: id(3), RSS: 500, Swap: 500, CPU: 0}}, s.now)
	s.at(10000).Sample([]Usage{{ID: id(2), RSS: 1000, CPU: 7 * sec}, {ID: id(3), RSS: 500, Swap: 500, CPU: 1 * sec}}, s.now)
	l := s.Open()[0]
	if got := l.ByteSeconds(s.now); math.Abs(got-20000) > 1 {
		t.Errorf("%v byte seconds, want 20000", got)
	}
	if got := l.CPUSeconds(); got != 3 {
		t.Errorf("%v cpu seconds, want 3", got)
	}
	s.at(15000).Exit(Exit{ID: id(2), Time: s.now, Ending: ByExit, CPU: 9 * sec})
	s.Exit(Exit{ID: id(3), Time: s.now, Ending: ByExit, CPU: 2 * sec})
	s.at(20000).tell()
	if got := l.ByteSeconds(s.now); math.Abs(got-30000) > 1 {
		t.Errorf("%v byte seconds in the end, want 30000", got)
	}
	if got := l.CPUSeconds(); got != 6 {
		t.Errorf("%v cpu seconds in the end, want 6", got)
	}
}

func TestRecords(t *testing.T) {
	s := newScript(t)
	s.orphan(2, 1, Leaked, false).fork(2, 3).fork(3, 4).orphan(9, 8, Unknown, false)
	s.at(1000).want("opened leaked", "opened unknown")
	s.Sample([]Usage{{ID: id(2), RSS: 1000, CPU: 5}}, s.now)
	s.exit(9, ByExit).at(1500).want("ended unknown by exit")
	b, err := json.Marshal(s.Export())
	if err != nil {
		t.Fatal(err)
	}
	var records []Record
	if err := json.Unmarshal(b, &records); err != nil {
		t.Fatal(err)
	}
	next := New("boot", 4)
	next.Import(records)
	if diff := cmp.Diff(s.Export(), next.Export()); diff != "" {
		t.Errorf("not the same after a restart:\n%s", diff)
	}
	other := New("another boot", 4)
	other.Import(records)
	if len(other.Export()) != 0 {
		t.Error("leaks of another boot were taken")
	}
	next.Retain(func(i event.ID) bool { return i != id(4) && i != id(3) }, s.now)
	if l := next.Open()[0]; l.Now != 1 || l.EndedBy != NotEnded {
		t.Errorf("%+v", l)
	}
	next.Judge(Orphan{ID: id(2), Leaker: id(1), Since: t0, Verdict: Deliberate}, s.now)
	if changes := next.Due(s.now + sec); len(changes) != 1 || changes[0].Kind != Ended {
		t.Errorf("%+v", changes)
	}
}

func TestRemembersOnlySoMany(t *testing.T) {
	s := newScript(t)
	for i := int32(1); i <= 10; i++ {
		s.orphan(1000+i, i, Leaked, false).exit(1000+i, ByExit)
		s.at(uint64(i) * 100)
	}
	s.at(5000).tell()
	if len(s.Ended()) != 4 || len(s.byID) != 4 || s.Get(MakeID("boot", id(10))) == nil {
		t.Errorf("%d remembered, %d by id", len(s.Ended()), len(s.byID))
	}
}

func TestIDIsStable(t *testing.T) {
	if got, want := MakeID("b", event.ID{PID: 4711, Start: 12345}), "L"; len(got) != 13 || got[:1] != want {
		t.Error(got)
	}
	if MakeID("b", id(1)) == MakeID("b2", id(1)) || MakeID("b", id(1)) == MakeID("b", id(2)) {
		t.Error("two leaks have one id")
	}
}

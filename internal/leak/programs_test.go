// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// by has an orphan of a leaker that is called so.
func (s *script) by(comm string, pid, leaker int32) *script {
	s.Judge(Orphan{ID: id(pid), Leaker: id(leaker), Since: s.now, Direct: true, Verdict: Leaked,
		Describe: func() Leaker { return Leaker{Comm: comm} }}, s.now)
	return s
}

// TestPrograms follows what two programs' leaks hold and cost.
func TestPrograms(t *testing.T) {
	s := newScript(t)
	s.at(0).by("a", 1, 10).by("a", 2, 20).by("b", 3, 30)
	s.Sample([]Usage{{ID: id(1), RSS: 100}, {ID: id(2), RSS: 10, Swap: 20}, {ID: id(3), RSS: 1}}, s.now)
	if c := s.Programs(s.now); len(c) != 0 {
		t.Errorf("before anybody was told: %+v", c)
	}
	s.at(2000)
	s.Sample([]Usage{{ID: id(1), RSS: 100, CPU: 3e9}, {ID: id(2), RSS: 10, Swap: 20}, {ID: id(3), RSS: 1}}, s.now)
	ended := func(how ...string) map[string]uint64 {
		m := map[string]uint64{"exit": 0, "kill": 0, "oom": 0, "signal": 0, "mixed": 0, "unknown": 0}
		for _, h := range how {
			m[h]++
		}
		return m
	}
	want := map[string]Counts{
		"a": {Open: 2, Processes: 2, Bytes: 130, Opened: 2, ByteSeconds: 260, CPUSeconds: 3, Ended: ended()},
		"b": {Open: 1, Processes: 1, Bytes: 1, Opened: 1, ByteSeconds: 2, Ended: ended()},
	}
	if diff := cmp.Diff(want, s.Programs(s.now)); diff != "" {
		t.Errorf("after 2 s (-want +got):\n%s", diff)
	}
	s.at(3000).exit(1, ByKill).at(4000).orphan(2, 20, Deliberate, false).exit(3, ByOOM).at(5000).tell()
	want = map[string]Counts{
		"a": {Opened: 2, ByteSeconds: 100*3 + 30*4, CPUSeconds: 3, Ended: ended("kill", "unknown")},
		"b": {Opened: 1, ByteSeconds: 4, Ended: ended("oom")},
	}
	if diff := cmp.Diff(want, s.Programs(s.now)); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
}

// TestProgramsAfterARestart: what an open leak had cost before is not counted again.
func TestProgramsAfterARestart(t *testing.T) {
	s := newScript(t)
	s.at(0).by("a", 1, 10)
	s.Sample([]Usage{{ID: id(1), RSS: 100, CPU: 1e9}}, s.now)
	s.at(2000)
	s.Sample([]Usage{{ID: id(1), RSS: 100, CPU: 4e9}}, s.now)
	next := New("boot", 4)
	next.Import(s.Export())
	next.Sample([]Usage{{ID: id(1), RSS: 100, CPU: 5e9}}, s.now+2*sec)
	if c := next.Programs(s.now + 2*sec)["a"]; c.Open != 1 || c.Opened != 0 || math.Abs(c.ByteSeconds-200) > 1e-6 || math.Abs(c.CPUSeconds-1) > 1e-6 {
		t.Errorf("%+v", c)
	}
}

// TestProgramsAreBounded: the first programs keep their places, all others share one, whatever
// they call themselves.
func TestProgramsAreBounded(t *testing.T) {
	s := newScript(t)
	s.at(0).by(OtherPrograms, 1, 5000)
	for n := range int32(3 * MaxPrograms) {
		s.by(fmt.Sprintf("p%d\n", n%(2*MaxPrograms)), 10+n, 1000+n)
	}
	s.at(1500).tell()
	c := s.Programs(s.now)
	if len(c) != MaxPrograms+1 {
		t.Errorf("%d programs", len(c))
	}
	open, own := 0, 0
	for name, counts := range c {
		open += counts.Open
		if name != OtherPrograms {
			own++
		}
	}
	if open != 3*MaxPrograms+1 || own != MaxPrograms {
		t.Errorf("%d leaks of %d programs", open, own)
	}
	for n := range int32(3 * MaxPrograms) {
		s.exit(10+n, ByExit)
	}
	s.at(3000).tell()
	if after := s.Programs(s.now); len(after) != len(c) || after[OtherPrograms].Open != 1 {
		t.Errorf("when they have ended: %d programs, %+v", len(after), after[OtherPrograms])
	}
}

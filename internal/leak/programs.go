// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"cmp"
	"maps"

	"github.com/abot-trace/abot-trace/internal/safetext"
)

// What programs are counted by.
const (
	// MaxPrograms is how many programs are counted each for itself. One that is keeps its
	// place as long as the set lives.
	MaxPrograms = 64
	// OtherPrograms counts those of all that came later.
	OtherPrograms = "other"
)

// Counts are what the leaks of one program are and were since the set was made: Open, Processes
// and Bytes are of now, all else only grows.
type Counts struct {
	Open, Processes int
	Bytes           uint64 // RSS and swap of the members of its open leaks
	Opened          uint64
	Ended           map[string]uint64 // by how; all of endings are there
	ByteSeconds     float64
	CPUSeconds      float64
}

// endings are the keys of Counts.Ended.
var endings = []string{ByExit.String(), ByKill.String(), ByOOM.String(), BySignal.String(), Mixed.String(), endedUnknown}

// endedUnknown is where nobody saw how the last members ended, or they proved deliberate.
const endedUnknown = "unknown"

// programs counts leaks by the programs that left them.
type programs struct {
	counts map[string]*Counts
	own    int // of counts, those of one program
}

// of returns the counts for a leak.
func (p *programs) of(l *Leak) *Counts {
	name := cmp.Or(l.Leaker.Fingerprint.Program, safetext.Terminal(l.Leaker.Comm), OtherPrograms)
	if c := p.counts[name]; c != nil {
		return c
	}
	if p.own >= MaxPrograms {
		name = OtherPrograms
	}
	c := p.counts[name]
	if c != nil {
		return c
	}
	c = &Counts{Ended: make(map[string]uint64, len(endings))}
	for _, how := range endings {
		c.Ended[how] = 0
	}
	if p.counts == nil {
		p.counts = make(map[string]*Counts)
	}
	if p.counts[name] = c; name != OtherPrograms {
		p.own++
	}
	return c
}

// A spent is what of a leak's cost its program's counts have.
type spent struct{ bytes, cpu float64 }

// spend counts what a leak has cost since it was counted last. A sample may correct what was
// counted between two, and a member that proves deliberate takes its processor time along: what
// was counted stays, and the next is counted from where it was.
func (c *Counts) spend(l *Leak, now uint64) {
	bytes, cpu := l.ByteSeconds(now), l.CPUSeconds()
	c.ByteSeconds += max(0, bytes-l.counted.bytes)
	c.CPUSeconds += max(0, cpu-l.counted.cpu)
	l.counted = spent{max(bytes, l.counted.bytes), max(cpu, l.counted.cpu)}
}

// countEnded counts a leak that has ended.
func (s *Set) countEnded(l *Leak) {
	c := s.programs.of(l)
	c.spend(l, l.EndedAt)
	c.Ended[cmp.Or(l.EndedBy.String(), endedUnknown)]++
}

// Programs returns what is counted by program, as it is now. The maps are the caller's.
func (s *Set) Programs(now uint64) map[string]Counts {
	for _, c := range s.programs.counts {
		c.Open, c.Processes, c.Bytes = 0, 0, 0
	}
	for _, l := range s.open {
		if !l.opened {
			continue
		}
		c := s.programs.of(l)
		c.Open++
		c.Processes += l.Now
		c.Bytes += l.RSS + l.Swap
		c.spend(l, now)
	}
	all := make(map[string]Counts, len(s.programs.counts))
	for name, c := range s.programs.counts {
		counts := *c
		counts.Ended = maps.Clone(c.Ended)
		all[name] = counts
	}
	return all
}

// SPDX-License-Identifier: Apache-2.0

// Package sample reads what processes and the host use: memory, swap, CPU, disks,
// load, pressure. It only measures; what a value means is the business of
// packages alert and monitor.
package sample

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
)

// A TaskSource lists every process that it can see, each once, in one pass. The
// BPF task iterator is one; [Procfs] is what there is without it.
type TaskSource interface {
	Tasks(yield func(event.Task)) error
}

// TaskFunc is a function that is a TaskSource.
type TaskFunc func(yield func(event.Task)) error

// Tasks implements TaskSource.
func (f TaskFunc) Tasks(yield func(event.Task)) error { return f(yield) }

// Usage is what one process uses at the time of a pass.
type Usage struct {
	ID      event.ID
	Parent  event.ID
	Comm    event.Comm
	UID     uint32
	State   byte // as in event.Task
	Threads int
	RSS     uint64 // bytes
	Swap    uint64 // bytes
	CPU     uint64 // ns since its start

	// CPUPercent is its share of one core since the pass before (100 is one core),
	// or since its start where that is later. It means something only if CPUKnown:
	// a first pass cannot tell.
	CPUPercent float64
	CPUKnown   bool
}

// Memory is RSS and swap together: a leaked process pages out.
func (u *Usage) Memory() uint64 { return u.RSS + u.Swap }

// A Pass is one look at all processes. It does not change, and any number of
// goroutines may read it.
type Pass struct {
	// Boot is when it was taken: CLOCK_BOOTTIME.
	Boot time.Duration
	// Took is how long it took.
	Took time.Duration

	mono time.Duration
	all  []Usage // by pid and start
}

func compareID(a, b event.ID) int {
	if a.PID != b.PID {
		return cmp.Compare(a.PID, b.PID)
	}
	return cmp.Compare(a.Start, b.Start)
}

func byID(a, b Usage) int { return compareID(a.ID, b.ID) }

// find returns the place of a process in all.
func (p *Pass) find(id event.ID) (int, bool) {
	return slices.BinarySearchFunc(p.all, id, func(u Usage, id event.ID) int { return compareID(u.ID, id) })
}

// Len is the number of processes.
func (p *Pass) Len() int { return len(p.all) }

// Get returns one process.
func (p *Pass) Get(id event.ID) (Usage, bool) {
	i, ok := p.find(id)
	if !ok {
		return Usage{}, false
	}
	return p.all[i], true
}

// All yields every process, by pid.
func (p *Pass) All() iter.Seq[*Usage] {
	return func(yield func(*Usage) bool) {
		for i := range p.all {
			if !yield(&p.all[i]) {
				return
			}
		}
	}
}

// Busiest returns the process with the greatest share of CPU, if any is known.
func (p *Pass) Busiest() (Usage, bool) {
	best := -1
	for i := range p.all {
		if p.all[i].CPUKnown && (best < 0 || p.all[i].CPUPercent > p.all[best].CPUPercent) {
			best = i
		}
	}
	if best < 0 {
		return Usage{}, false
	}
	return p.all[best], true
}

// Above returns the processes that use more than limit bytes of memory and swap,
// the greatest first.
func (p *Pass) Above(limit uint64) []Usage {
	var out []Usage
	for i := range p.all {
		if p.all[i].Memory() > limit {
			out = append(out, p.all[i])
		}
	}
	slices.SortFunc(out, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(b.Memory(), a.Memory()), cmp.Compare(a.ID.PID, b.ID.PID))
	})
	return out
}

// Sum is what several processes use together.
type Sum struct {
	Processes  int
	RSS, Swap  uint64
	CPUPercent float64
}

// Sum adds up the processes of one tree; those that the pass has not seen count
// nothing.
func (p *Pass) Sum(ids iter.Seq[event.ID]) Sum {
	var sum Sum
	for id := range ids {
		if i, ok := p.find(id); ok {
			u := &p.all[i]
			sum.Processes++
			sum.RSS += u.RSS
			sum.Swap += u.Swap
			sum.CPUPercent += u.CPUPercent
		}
	}
	return sum
}

// Clock tells the time since boot, with and without the time spent in suspend. The
// wall clock is not asked: it steps.
type Clock func() (boot, mono time.Duration)

// SystemClock reads CLOCK_BOOTTIME, by which processes start, and CLOCK_MONOTONIC.
func SystemClock() (boot, mono time.Duration) {
	return time.Duration(boottime.Now()), readClock(unix.CLOCK_MONOTONIC)
}

func readClock(id int32) time.Duration {
	var ts unix.Timespec
	// It fails only for a clock that the kernel does not have; both are older than
	// anything this program runs on.
	_ = unix.ClockGettime(id, &ts)
	return time.Duration(ts.Nano())
}

// minInterval is the shortest time between two passes from which a share of CPU
// is computed: procfs counts in ticks of 10 ms.
const minInterval = 100 * time.Millisecond

// A Sampler takes passes and tells the CPU share by the difference to the one
// before. One goroutine uses it.
type Sampler struct {
	source TaskSource
	clock  Clock
	last   *Pass
}

// NewSampler returns a Sampler of source; a nil clock is [SystemClock].
func NewSampler(source TaskSource, clock Clock) *Sampler {
	if clock == nil {
		clock = SystemClock
	}
	return &Sampler{source: source, clock: clock}
}

// Pass looks at all processes once.
func (s *Sampler) Pass() (*Pass, error) {
	size := 0
	if s.last != nil {
		size = s.last.Len() + s.last.Len()/8
	}
	pass := &Pass{all: make([]Usage, 0, size)}
	pass.Boot, pass.mono = s.clock()
	err := s.source.Tasks(func(t event.Task) {
		if t.Kthread || t.Dead {
			return
		}
		pass.all = append(pass.all, Usage{ID: t.ID, Parent: t.Parent, Comm: t.Comm, UID: t.UID,
			State: t.State, Threads: t.Threads, RSS: t.RSS, Swap: t.Swap, CPU: t.CPU})
	})
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	pass.arrange()
	_, end := s.clock()
	pass.Took = end - pass.mono
	s.shares(pass)
	return pass, nil
}

// arrange puts the processes in their order, in which the kernel lists most of them,
// and leaves out repeats.
func (p *Pass) arrange() {
	if !slices.IsSortedFunc(p.all, byID) {
		slices.SortStableFunc(p.all, byID)
	}
	p.all = slices.CompactFunc(p.all, func(a, b Usage) bool { return a.ID == b.ID })
}

// shares fills in the CPU shares of pass and keeps it for the next one. A pass too
// close to the last is measured against that one again next time.
func (s *Sampler) shares(pass *Pass) {
	last := s.last
	if last == nil {
		s.last = pass
		return
	}
	elapsed := pass.mono - last.mono
	if elapsed < minInterval {
		return
	}
	s.last = pass
	old := last.all
	for i := range pass.all {
		u := &pass.all[i]
		for len(old) > 0 && compareID(old[0].ID, u.ID) < 0 {
			old = old[1:]
		}
		var before uint64
		if len(old) > 0 && old[0].ID == u.ID {
			before = old[0].CPU
		} else if u.ID.Start < uint64(last.Boot) {
			continue // older than the last pass, which did not see it
		}
		u.CPUKnown = true
		if u.CPU > before {
			u.CPUPercent = 100 * float64(u.CPU-before) / float64(elapsed)
		}
	}
}

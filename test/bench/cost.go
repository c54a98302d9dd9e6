// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// The arms. The first is what the others are compared with, in the same round.
var arms = []arm{
	{"nothing attached", bare, false},
	{"abot-trace", daemon, true},
	{"abot-trace, one reader of all events", following, true},
	{"forkstat", forkstat, false},
	{"bpftrace one-liner", bpftrace, false},
}

// A cell is what was measured of one storm under one arm, a value for each round.
type cell struct {
	slowdown []float64 // beside nothing attached, in the same round
	perEvent []float64 // CPU of the tracer, us
	lost     int
	events   int
}

// costs are the cells by arm and storm.
type costs map[string]map[string]*cell

func (s storm) String() string { return fmt.Sprintf("%s, J=%d", s.kind, s.jobs) }

// all returns how many records the storm makes.
func (s storm) all() int { return s.events * s.jobs * s.count }

// slowdowns runs every storm under every arm, the arms in an order that changes with
// each round. The peers take part in fewer rounds: their distance is larger.
func (b *bench) slowdowns(storms []storm, rounds, peerRounds int) (costs, error) {
	all := make(costs)
	for _, a := range arms {
		all[a.name] = make(map[string]*cell)
		for _, s := range storms {
			all[a.name][s.String()] = new(cell)
		}
	}
	for round := range rounds {
		b.progress("storms", round, rounds)
		times := make(map[string]map[string]time.Duration)
		for _, i := range rand.Perm(len(arms)) {
			if i > 1 && round >= peerRounds || b.missing[arms[i].name] != nil {
				continue
			}
			t, err := b.underArm(arms[i], storms, all[arms[i].name])
			if err != nil {
				if i < 3 {
					return nil, err
				}
				b.missing[arms[i].name] = err
				continue
			}
			times[arms[i].name] = t
		}
		for name, t := range times {
			for s, took := range t {
				all[name][s].slowdown = append(all[name][s].slowdown, float64(took)/float64(times[arms[0].name][s]))
			}
		}
	}
	return all, nil
}

// underArm runs the storms under one arm and returns how long each took.
func (b *bench) underArm(a arm, storms []storm, cells map[string]*cell) (map[string]time.Duration, error) {
	times := make(map[string]time.Duration)
	for _, s := range storms {
		// A tracer of its own for each storm: peers' output is complete at their end.
		t, err := a.start(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		before := t.cpu()
		took, err := b.run(s)
		if err != nil {
			t.stop()
			return nil, err
		}
		b.settle(t)
		cpu := t.cpu() - before
		times[s.String()] = took
		if t.result == nil {
			continue
		}
		seen, lost := 0, 0
		if a.asked {
			seen, lost, err = t.result(s.all())
			t.stop()
		} else {
			t.stop()
			seen, lost, err = t.result(s.all())
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		c := cells[s.String()]
		c.lost += lost
		c.events += s.all()
		if s.events > 0 && seen > 0 {
			c.perEvent = append(c.perEvent, float64(cpu.Nanoseconds())/1e3/float64(seen))
		}
	}
	return times, nil
}

// settle waits until a tracer has worked off what the storm left: until it has used no
// more than a hundredth of a processor for 50 ms.
func (b *bench) settle(t *tracer) {
	if len(t.procs) == 0 {
		return
	}
	last := t.cpu()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
		now := t.cpu()
		if now-last < 500*time.Microsecond {
			return
		}
		last = now
	}
}

// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"errors"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// script is a TaskSource that gives one prepared pass after another.
type script struct {
	passes [][]event.Task
	err    error
}

func (s *script) Tasks(yield func(event.Task)) error {
	if s.err != nil {
		return s.err
	}
	for _, t := range s.passes[0] {
		yield(t)
	}
	s.passes = s.passes[1:]
	return nil
}

// steps is a clock that advances by the next step at each pass and stands still
// during it.
func steps(step ...[2]time.Duration) Clock {
	var boot, mono time.Duration
	start := true
	return func() (time.Duration, time.Duration) {
		if start {
			boot, mono = boot+step[0][0], mono+step[0][1]
			step = step[1:]
		}
		start = !start
		return boot, mono
	}
}

func task(pid int32, start time.Duration, cpu time.Duration) event.Task {
	return event.Task{ID: event.ID{PID: pid, Start: uint64(start)}, CPU: uint64(cpu)}
}

func TestCPUShares(t *testing.T) {
	const s = time.Second
	type share struct {
		percent float64
		known   bool
	}
	old := event.ID{PID: 1, Start: uint64(s)}
	tests := []struct {
		name   string
		clock  Clock
		passes [][]event.Task
		id     event.ID
		want   share
	}{
		{"first pass cannot tell", steps([2]time.Duration{10 * s, 10 * s}),
			[][]event.Task{{task(1, s, 5*s)}}, old, share{0, false}},
		{"half a core", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{10 * s, 10 * s}),
			[][]event.Task{{task(1, s, 5*s)}, {task(1, s, 10*s)}}, old, share{50, true}},
		{"three cores", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{10 * s, 10 * s}),
			[][]event.Task{{task(1, s, 0)}, {task(1, s, 30*s)}}, old, share{300, true}},
		{"suspended in between", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{3600 * s, 10 * s}),
			[][]event.Task{{task(1, s, 5*s)}, {task(1, s, 10*s)}}, old, share{50, true}},
		{"counter went back", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{10 * s, 10 * s}),
			[][]event.Task{{task(1, s, 5*s)}, {task(1, s, 4*s)}}, old, share{0, true}},
		{"born in between", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{10 * s, 10 * s}),
			[][]event.Task{{}, {task(2, 15*s, 2*s)}}, event.ID{PID: 2, Start: uint64(15 * s)}, share{20, true}},
		{"old but not seen before", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{10 * s, 10 * s}),
			[][]event.Task{{}, {task(1, s, 2*s)}}, old, share{0, false}},
		{"pid reused", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{10 * s, 10 * s}),
			[][]event.Task{{task(1, s, 9*s)}, {task(1, 15*s, s)}}, event.ID{PID: 1, Start: uint64(15 * s)}, share{10, true}},
		{"too soon, then measured from the first", steps([2]time.Duration{10 * s, 10 * s}, [2]time.Duration{s / 100, s / 100}, [2]time.Duration{10*s - s/100, 10*s - s/100}),
			[][]event.Task{{task(1, s, 0)}, {task(1, s, s/100)}, {task(1, s, 5*s)}}, old, share{50, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &script{passes: tt.passes}
			sampler := NewSampler(src, tt.clock)
			var pass *Pass
			for len(src.passes) > 0 {
				var err error
				if pass, err = sampler.Pass(); err != nil {
					t.Fatal(err)
				}
			}
			u, ok := pass.Get(tt.id)
			if !ok {
				t.Fatalf("%v is not in the pass", tt.id)
			}
			if u.CPUKnown != tt.want.known || math.Abs(u.CPUPercent-tt.want.percent) > 1e-9 {
				t.Errorf("share = %v known %v, want %v", u.CPUPercent, u.CPUKnown, tt.want)
			}
		})
	}
}

func TestPassQuestions(t *testing.T) {
	big, small := task(1, 1, 0), task(2, 2, 0)
	big.RSS, big.Swap, small.RSS = 300, 300, 100
	kernel, zombie := task(3, 3, 0), task(4, 4, 0)
	kernel.Kthread, zombie.Dead = true, true
	pass, err := NewSampler(&script{passes: [][]event.Task{{small, big, kernel, zombie, small}}}, nil).Pass()
	if err != nil {
		t.Fatal(err)
	}
	if pass.Len() != 2 {
		t.Errorf("Len = %d, want 2: kernel threads, zombies and repeats do not count", pass.Len())
	}
	if got := pass.Above(500); len(got) != 1 || got[0].ID != big.ID {
		t.Errorf("Above(500) = %v, want the process with 600 bytes", got)
	}
	if _, ok := pass.Busiest(); ok {
		t.Error("Busiest is known after one pass")
	}
	ids := maps.Keys(map[event.ID]bool{big.ID: true, small.ID: true, {PID: 9, Start: 9}: true})
	if got, want := pass.Sum(ids), (Sum{Processes: 2, RSS: 400, Swap: 300}); got != want {
		t.Errorf("Sum = %+v, want %+v", got, want)
	}
	if n := len(slices.Collect(pass.All())); n != 2 {
		t.Errorf("All yields %d, want 2", n)
	}
}

func TestPassError(t *testing.T) {
	cause := errors.New("refused")
	if _, err := NewSampler(&script{err: cause}, nil).Pass(); !errors.Is(err, cause) {
		t.Errorf("error %v, want it to wrap %v", err, cause)
	}
}

func TestInterval(t *testing.T) {
	tests := []struct {
		name     string
		base     time.Duration
		nearness float64
		want     time.Duration
	}{
		{"far", 30 * time.Second, 0.2, 30 * time.Second},
		{"begins to close in", 30 * time.Second, 0.8, 30 * time.Second},
		{"at a threshold", 30 * time.Second, 1, 5 * time.Second},
		{"beyond it", 30 * time.Second, 3, 5 * time.Second},
		{"not below a second", 3 * time.Second, 1, time.Second},
		{"a short base stays", 500 * time.Millisecond, 1, 500 * time.Millisecond},
		{"nothing measured", 30 * time.Second, 0, 30 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Interval(tt.base, tt.nearness); got != tt.want {
				t.Errorf("Interval(%v, %v) = %v, want %v", tt.base, tt.nearness, got, tt.want)
			}
		})
	}
}

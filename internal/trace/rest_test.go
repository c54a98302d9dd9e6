// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestRestBeforeTelling wants the loop to sleep between what acts on an orphan, if it asks
// for that, and who is told of it; and again behind that.
func TestRestBeforeTelling(t *testing.T) {
	for _, acts := range []bool{false, true} {
		s := &sleeper{script: newScript()}
		s.tasks = []event.Task{task(0, 0)}
		var tracer *Tracer
		var heard []string
		done := make(chan struct{})
		tracer = New(s, Options{
			OnOrphans: func([]event.ID) {
				if acts {
					tracer.YieldOnLoop(func() { heard = append(heard, "goes on") })
				}
				if slices.Contains(heard, "acts") {
					return // another verdict by then
				}
				heard, s.note = append(heard, "acts"), func() { heard = append(heard, "sleeps") }
			},
			OnEvent: func(e *wire.Event) {
				if e.Type == wire.TypeOrphan {
					heard = append(heard, "tells")
				}
			},
			OnTick: func() uint64 {
				if slices.Contains(heard, "sleeps") && slices.Contains(heard, "tells") && s.note != nil {
					s.note = nil
					close(done)
				}
				return 0
			},
		})
		run(t, tracer)
		s.send(fork(0, 1), execed(1), fork(1, 2), execed(2), atDeath(1, 2), killed(1))
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("nothing was told")
		}
		want := []string{"acts", "tells", "sleeps"}
		if acts {
			want = []string{"acts", "sleeps", "tells", "sleeps", "goes on"}
		}
		if !slices.Equal(heard, want) {
			t.Errorf("acts %v: got %q, want %q", acts, heard, want)
		}
	}
}

// A sleeper is a script that says when the loop sleeps.
type sleeper struct {
	*script
	note func() // on the loop
}

func (s *sleeper) Wait(d time.Duration) error {
	if s.note != nil {
		s.note()
	}
	return s.script.Wait(d)
}

// TestDrainedLines wants who reads lines told of what a command read from the ring before
// the loop sleeps for long.
func TestDrainedLines(t *testing.T) {
	s := &sleeper{script: newScript()}
	s.tasks = []event.Task{task(0, 0)}
	tracer := New(s, Options{})
	run(t, tracer)
	told, heard := make(chan struct{}, 1), false // heard is the loop's
	_, lines, err := tracer.Follow(t.Context(), []string{wire.TypeFork}, boottime.Now(), func() {
		heard = true
		told <- struct{}{}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	late := false
	if err := tracer.Do(t.Context(), func(*tracker.Tree) {
		s.note = func() { late = late || !heard }
		s.mu.Lock()
		s.waiting = append(s.waiting, fork(0, 1))
		s.mu.Unlock()
		tracer.DrainOnLoop()
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(patience):
		t.Fatal("nothing is told")
	}
	if err := tracer.Do(t.Context(), func(*tracker.Tree) { s.note = nil }); err != nil {
		t.Fatal(err)
	}
	if late {
		t.Error("the loop slept before it told")
	}
}

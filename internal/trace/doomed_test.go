// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func signalled(n int) event.Event {
	return event.Event{Kind: event.KindSignal, Subject: proc(n), Ordinal: 1, Signal: event.Signal{Signal: 9}}
}

// TestForesee wants those below a process looked at when it was sent a signal that ends it,
// a bounded number of them, and not when its death is there already.
func TestForesee(t *testing.T) {
	family := func(children int) []event.Event {
		all := []event.Event{fork(0, 1), execed(1)}
		for i := range children {
			all = append(all, fork(1, 2+i))
		}
		return all
	}
	for _, tt := range []struct {
		name   string
		before []event.Event
		then   []event.Event
		want   int
	}{
		{"children", family(2), []event.Event{signalled(1)}, 2},
		{"a grandchild", append(family(1), fork(2, 3)), []event.Event{signalled(1)}, 2},
		{"many", family(3 * maxDoomed), []event.Event{signalled(1)}, maxDoomed},
		{"nobody", family(0), []event.Event{signalled(1)}, 0},
		{"dead by then", family(2), []event.Event{signalled(1), killed(1)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript()
			s.tasks = []event.Task{task(0, 0)}
			var seen []event.ID
			tracer := start(t, s, Options{OnDoomed: func(id event.ID) { seen = append(seen, id) }})
			s.send(tt.before...)
			settled(t, tracer)
			s.send(tt.then...)
			settled(t, tracer)
			settled(t, tracer) // behind the look at the ring that read the signal
			if len(seen) != tt.want || slices.Contains(seen, proc(1)) {
				t.Errorf("looked at %v, want %d", seen, tt.want)
			}
		})
	}
}

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
					tracer.RestHere(func() { heard = append(heard, "goes on") })
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

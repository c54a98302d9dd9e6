// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"slices"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/stream"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestOrphansActedOnFirst wants whoever acts to hear of orphans, judged, before those
// who read do; and of an ended lease before its orphans.
func TestOrphansActedOnFirst(t *testing.T) {
	s := newScript()
	s.tasks = []event.Task{task(0, 0)}
	var tracer *Tracer
	var sub *stream.Subscription
	var heard []string
	acted := make(chan []string, 1)
	tracer = New(s, Options{
		OnLeaseEnd: func(lease.Lease) { heard = append(heard, "lease") },
		OnOrphans: func(ids []event.ID) {
			for _, id := range ids {
				p, _ := tracer.TreeOnLoop().Get(id)
				heard = append(heard, p.Orphan.Verdict)
			}
			if len(sub.Events()) > 0 {
				heard = append(heard, "told before")
			}
			acted <- heard
		},
	})
	sub = tracer.Subscribe(wire.TypeOrphan)
	defer sub.Close()
	run(t, tracer)
	s.send(fork(0, 1), execed(1), fork(1, 2), execed(2), fork(2, 3))
	if err := tracer.DoDrained(context.Background(), func(*tracker.Tree) { tracer.Leases().Hold(lease.Lease{Holder: proc(1)}) }); err != nil {
		t.Fatal(err)
	}
	s.send(atDeath(1, 2), killed(1))
	next(t, sub)
	next(t, sub)
	if got, want := <-acted, []string{"lease", wire.VerdictLeaked, wire.VerdictLeaked}; !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// TestUnchanged wants a mark to hold until the next record is begun, and no longer than
// the tree is whole.
func TestUnchanged(t *testing.T) {
	s := newScript()
	tracer := start(t, s, Options{})
	mark := func() (m Mark) {
		if err := tracer.Do(context.Background(), func(*tracker.Tree) { m = tracer.DrainOnLoop() }); err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := mark()
	if !first.Complete() || !tracer.Unchanged(first) {
		t.Error("changed without a record")
	}
	s.send(fork(0, 1))
	if tracer.Unchanged(first) {
		t.Error("a record goes unnoticed")
	}
	second := mark()
	if !tracer.Unchanged(second) || tracer.Unchanged(first) {
		t.Error("the mark behind the record does not hold, or the one before it does")
	}
	s.refused.Add(1)
	if tracer.Unchanged(second) {
		t.Error("a record that was refused goes unnoticed")
	}
	if tracer.Unchanged(Mark{}) {
		t.Error("no mark holds")
	}
}

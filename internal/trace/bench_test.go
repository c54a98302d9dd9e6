// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// BenchmarkStorm applies fork, exec and exit of one process after another: what an
// event costs the loop behind the decoding, with nobody listening, with one subscriber to
// everything, and with one reader of lines. An operation is one event.
func BenchmarkStorm(b *testing.B) {
	for _, bench := range []struct {
		name             string
		listen, followed bool
	}{{"unheard", false, false}, {"heard", true, false}, {"followed", false, true}} {
		b.Run(bench.name, func(b *testing.B) {
			t := New(newScript(), Options{Log: slog.New(slog.DiscardHandler)})
			t.tree.Begin([]event.Task{task(0, 0)}, 1).End()
			t.names.unified = true
			t.names.byID[0] = group{path: "/"}
			if bench.followed {
				l := &Lines{hub: &t.hub, types: newTypeSet(nil), done: make(chan struct{})}
				var text []byte
				l.news = func() { _, _, text = l.Take(text[:0], 1<<20) }
				t.hub.follow(l)
				defer l.Close()
			}
			if bench.listen {
				sub := t.Subscribe()
				defer sub.Close()
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range sub.Events() {
					}
				}()
				defer func() { sub.Close(); <-done }()
			}
			records := []event.Event{fork(0, 1), execed(1), killed(1)}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				e := &records[i%3]
				n := i / 3
				e.Subject = event.ID{PID: firstPID + 1 + int32(n%30000), Start: uint64(2000 + n)}
				e.Time = uint64(2000 + n)
				t.handle(e)
				if i%64 == 0 {
					t.hub.flushPaced(1)
				}
			}
		})
	}
}

// BenchmarkTreeSnapshot looks at 10,000 processes. What it holds the loop for delays events.
func BenchmarkTreeSnapshot(b *testing.B) {
	s := newScript()
	for i := range 10000 {
		s.tasks = append(s.tasks, task(i, 0))
	}
	t := New(s, Options{Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- t.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-t.Ready()
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			snapshot, err := t.TreeSnapshot(ctx)
			if err != nil {
				b.Fatal(err)
			}
			snapshot.Each(func(*wire.Process) {})
			if err := snapshot.EachMemory(func(int, uint64, uint64) {}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("on the loop", func(b *testing.B) {
		var held time.Duration
		for b.Loop() {
			room := make([]tracker.Process, 0, 11250)
			if err := t.Do(ctx, func(tree *tracker.Tree) {
				began := time.Now()
				copyAll(tree, room)
				held += time.Since(began)
			}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(held.Nanoseconds())/float64(b.N), "ns-held/op")
	})
}

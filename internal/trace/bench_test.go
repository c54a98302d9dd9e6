// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/stream"
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
			// Where the first one stands, who is real, all that it forks stand too.
			self := event.ID{PID: int32(os.Getpid())}
			stat, err := procfs.FS{}.Stat(self.PID)
			if err != nil {
				b.Fatal(err)
			}
			self.Start = stat.StartTicks * 10_000_000
			t.names.Group(self, 0, true)
			if bench.followed {
				var l *stream.Lines
				var text []byte
				takeLines := func() { _, _, text = l.Take(text[:0], 1<<20) }
				onLoop(t, func() { _, l, err = t.Follow(b.Context(), nil, 0, takeLines) })
				if err != nil {
					b.Fatal(err)
				}
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
			records[0].Fork.Spawner, records[0].Fork.Caller = self, self
			began := boottime.Now()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				e := &records[i%3]
				n := i / 3
				e.Subject = event.ID{PID: firstPID + 1 + int32(n%30000), Start: began + uint64(n)}
				e.Time = e.Subject.Start
				t.handle(e)
				if i%64 == 0 {
					t.stream.FlushPaced(1)
				}
			}
		})
	}
}

// onLoop runs what asks the loop of a tracer that does not run.
func onLoop(t *Tracer, ask func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask()
	}()
	for {
		select {
		case <-done:
			return
		default:
			t.inbox.Run()
		}
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
}

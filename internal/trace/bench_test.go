// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"log/slog"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
)

// BenchmarkStorm applies fork, exec and exit of one process after another: what an
// event costs the loop behind the decoding, with nobody listening and with one
// subscriber to everything. An operation is one event.
func BenchmarkStorm(b *testing.B) {
	for _, bench := range []struct {
		name   string
		listen bool
	}{{"unheard", false}, {"heard", true}} {
		b.Run(bench.name, func(b *testing.B) {
			t := New(newScript(), Options{Log: slog.New(slog.DiscardHandler)})
			t.tree.Begin([]event.Task{task(0, 0)}, 1).End()
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
			}
		})
	}
}

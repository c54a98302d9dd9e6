// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// BenchmarkCopy copies a tree of 10,000 processes, which is what a look at it holds the
// loop for, and so delays events.
func BenchmarkCopy(b *testing.B) {
	tree := tracker.New(0)
	tasks := make([]event.Task, 10000)
	for i := range tasks {
		id := event.ID{PID: int32(i + 1), Start: uint64(1000 + i)}
		tasks[i] = event.Task{ID: id, HostPID: id.PID, Comm: event.MakeComm("worker"), NSInit: i == 0, State: 'S', Threads: 1}
	}
	tree.Begin(tasks, 1).End()
	room := make([]tracker.Process, 0, 11250)
	b.ReportAllocs()
	for b.Loop() {
		copyAll(tree, room)
	}
}

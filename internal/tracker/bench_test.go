// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

var sizes = []int{1_000, 10_000, 100_000}

// crowded returns a tree of n living processes, with the words, origins and cgroups of
// a host: some hundred programs, each run many times.
func crowded(n int) *feed {
	f := &feed{tree: New(0), next: 1}
	f.fork(testInit)
	spawners := []event.ID{testInit}
	for i := range n {
		id := f.fork(spawners[i/8%len(spawners)])
		f.program(id, i%300)
		if i%5 == 0 {
			spawners = append(spawners, id)
		}
	}
	return f
}

func (f *feed) program(id event.ID, n int) {
	e := event.Event{Kind: event.KindExec, Subject: id, Ordinal: uint32(f.next), Comm: event.MakeComm("program")}
	e.Exec = event.Exec{Filename: "/usr/bin/program", Cmdline: fmt.Sprintf("program\x00--number\x00%d\x00", n), Cgroup: uint64(n)}
	f.tree.Apply(&e)
}

// BenchmarkApply is the life of one process, fork, exec and exit, among n others.
func BenchmarkApply(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := crowded(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				id := f.fork(testInit)
				f.program(id, i%300)
				f.exit(id)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/3, "ns/event")
		})
	}
}

// BenchmarkOrphan is a death that leaves one orphan, which then ends.
func BenchmarkOrphan(b *testing.B) {
	f := crowded(10_000)
	b.ReportAllocs()
	for b.Loop() {
		parent := f.fork(testInit)
		child := f.fork(parent)
		f.exit(parent)
		f.exit(child)
	}
}

// BenchmarkMerge is a resync that finds nothing new among n processes.
func BenchmarkMerge(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := crowded(n)
			var tasks []event.Task
			for p := range f.tree.All(false) {
				tasks = append(tasks, event.Task{ID: p.ID, Parent: p.Parent, Comm: p.Comm, Cgroup: p.Cgroup})
			}
			b.ReportAllocs()
			for b.Loop() {
				if found, vanished, _ := f.tree.Begin(tasks, f.next+1).End(); found != 0 || vanished != 0 {
					b.Fatalf("found %d, vanished %d", found, vanished)
				}
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory reports the heap that a living process takes, and a dead one that is
// remembered, and how long a full collection stops for them.
func BenchmarkMemory(b *testing.B) {
	for _, n := range append(sizes, 1_000_000) {
		b.Run(fmt.Sprintf("living-%d", n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				f := crowded(n)
				b.ReportMetric(float64(heap()-before)/float64(f.tree.Living()), "B/living")
				start := time.Now()
				runtime.GC()
				b.ReportMetric(float64(time.Since(start).Microseconds()), "us/GC")
				runtime.KeepAlive(f)
			}
		})
	}
	b.Run("dead", func(b *testing.B) {
		for b.Loop() {
			const n = 100_000
			before := heap()
			f := &feed{tree: New(n), next: 1}
			for i := range n {
				id := f.fork(testInit)
				f.program(id, i%300)
				f.exit(id)
			}
			b.ReportMetric(float64(heap()-before)/float64(f.tree.Remembered()), "B/dead")
			runtime.KeepAlive(f)
		}
	})
}

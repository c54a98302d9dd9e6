// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// twentyRules are of every kind. Each is evaluated to its last condition, which does
// not hold, so that a pass costs the most and changes nothing.
func twentyRules() string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range 5 {
		fmt.Fprintf(&b, "  - {name: age%d, match: {user: [root], verdict: [leaked, unknown]}, orphaned_for: 24h}\n", i)
		fmt.Fprintf(&b, "  - {name: memory%d, match: {user: [root], verdict: [leaked, unknown]}, memory_above: 500MiB}\n", i)
		fmt.Fprintf(&b, "  - {name: when%d, match: {verdict: [leaked, unknown]}, when: host.memory_percent > 85}\n", i)
		fmt.Fprintf(&b, "  - {name: pattern%d, match: {verdict: [leaked, unknown], cmdline: 'multiprocessing\\.(spawn|forkserver)'}}\n", i)
	}
	return b.String()
}

// grow gives every orphan of the world three children.
func (w *world) grow(pid int32, start uint64) {
	parent := event.ID{PID: pid, Start: start}
	for i := range int32(3) {
		w.write(event.Event{Kind: event.KindFork, Subject: event.ID{PID: pid + (i+1)*100_000, Start: start + 1 + uint64(i)}, Time: start + 1,
			Fork: event.Fork{Spawner: parent, Caller: parent}})
	}
}

// BenchmarkPass evaluates 20 rules over 10,000 processes, all in leaked trees of four:
// a full pass, and one new orphan, through the tracer's own tree.
func BenchmarkPass(b *testing.B) {
	const trees = 2500
	w := newWorld(b, twentyRules())
	w.discard()
	var last event.ID
	for n := range int32(trees) {
		pid := w.leak(n + 1)
		last = event.ID{PID: pid, Start: w.began + uint64(n+1)*10 + 1}
		w.grow(pid, last.Start)
	}
	w.host.MemoryPercent = 40
	w.on(func(tree *tracker.Tree) {
		if tree.Living() < 4*trees || tree.Orphans() < trees {
			b.Fatalf("%d processes, %d orphans", tree.Living(), tree.Orphans())
		}
	})
	b.Run("full", func(b *testing.B) {
		b.ReportAllocs()
		w.on(func(*tracker.Tree) {
			for b.Loop() {
				if d := w.engine.Evaluate(w.bind(), &w.host, boottime.Now()); len(d) > 0 {
					b.Fatalf("%d decisions", len(d))
				}
			}
		})
	})
	b.Run("orphan", func(b *testing.B) {
		b.ReportAllocs()
		w.on(func(*tracker.Tree) {
			for b.Loop() {
				w.engine.EvaluateOrphans(w.bind(), &w.host, []event.ID{last}, boottime.Now())
			}
		})
	})
}

// BenchmarkDeep is a full pass with the rules of the shipped file's kinds over one chain of
// living orphans, each the child of the one before.
func BenchmarkDeep(b *testing.B) {
	for _, depth := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(depth), func(b *testing.B) {
			w := newWorld(b, twentyRules())
			w.leakChain(depth)
			w.on(func(*tracker.Tree) {
				for b.Loop() {
					w.engine.Evaluate(w.bind(), &w.host, boottime.Now())
				}
			})
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*depth), "ns/process")
		})
	}
}

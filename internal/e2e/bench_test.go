// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// parents is how many are killed in one run of a benchmark.
const parents = 30

// BenchmarkRuleKill takes the time from the death of a parent to the death of every
// process of the tree of four that it leaves, and to the event that tells it, by a
// rule with full evidence.
func BenchmarkRuleKill(b *testing.B) {
	d := startDaemon(b, armed)
	benchmarkTrees(b, d, func(b *testing.B) *family { return startFamily(b, "parent", "tree") })
}

// BenchmarkLeaseKill is the same where the parent held a lease by its mark.
func BenchmarkLeaseKill(b *testing.B) {
	d := startDaemon(b, resting)
	benchmarkTrees(b, d, func(b *testing.B) *family {
		return startShell(b, []string{"ABOT_TRACE_LEASH=1"}, "sh $F tree & wait")
	})
}

func benchmarkTrees(b *testing.B, d *daemon, plant func(*testing.B) *family) {
	var deaths, told []time.Duration
	for b.Loop() {
		for range parents {
			f := plant(b)
			tree := append(f.await("leaf", 3), f.await("root", 1)...)
			began := time.Now()
			if err := f.cmd.Process.Kill(); err != nil {
				b.Fatal(err)
			}
			for _, p := range tree {
				p.mustDie()
			}
			deaths = append(deaths, time.Since(began))
			k := d.kill(f.await("root", 1)[0].pid, nil)
			told = append(told, time.Since(began))
			if k.Outcome != wire.KillDone {
				b.Fatalf("kill: %+v", k)
			}
			_ = f.cmd.Wait()
		}
	}
	report(b, deaths, "dead")
	report(b, told, "told")
}

// BenchmarkKillFloor is what the kernel and this machine take at least: the test itself
// waits for the parent's death by a pidfd, and has every pidfd at hand.
func BenchmarkKillFloor(b *testing.B) {
	var deaths []time.Duration
	for b.Loop() {
		for range parents {
			f := startFamily(b, "parent", "tree")
			tree := append(f.await("leaf", 3), f.await("root", 1)...)
			parent := f.await("parent", 1)[0]
			began := time.Now()
			if err := f.cmd.Process.Kill(); err != nil {
				b.Fatal(err)
			}
			parent.mustDie()
			for _, p := range tree {
				// The shell ends by itself when its children have.
				if err := unix.PidfdSendSignal(p.fd, unix.SIGTERM, nil, 0); err != nil && err != unix.ESRCH {
					b.Fatal(err)
				}
			}
			for _, p := range tree {
				p.mustDie()
			}
			deaths = append(deaths, time.Since(began))
			_ = f.cmd.Wait()
		}
	}
	report(b, deaths, "dead")
}

func report(b *testing.B, all []time.Duration, what string) {
	slices.Sort(all)
	at := func(percent int) float64 {
		return float64(all[(len(all)-1)*percent/100].Nanoseconds()) / 1000
	}
	b.ReportMetric(at(50), what+"-p50-us")
	b.ReportMetric(at(99), what+"-p99-us")
}

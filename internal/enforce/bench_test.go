// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// flock starts n children that do what argv says, and reaps them when they end.
func flock(b *testing.B, w *world, n int, argv ...string) (targets []Target) {
	b.Helper()
	for range n {
		pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ()})
		if err != nil {
			b.Fatal(err)
		}
		go syscall.Wait4(pid, nil, 0, nil)
		targets = append(targets, Target{ID: w.id(int32(pid))})
	}
	return targets
}

// percentiles reports p50 and p99 of times that are in milliseconds.
func percentiles(b *testing.B, unit string, ms []float64) {
	slices.Sort(ms)
	b.ReportMetric(ms[len(ms)/2], "p50-"+unit)
	b.ReportMetric(ms[len(ms)*99/100], "p99-"+unit)
}

// BenchmarkKill is from the decision to the verified death of all of a tree of 4
// that obeys SIGTERM; reaping included. It works on its own children only.
func BenchmarkKill(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			w := newWorld(b)
			tree := &alone{}
			e := Enforcer{Identity: w, Tree: tree, Protector: tree, Journal: Dir(b.TempDir())}
			var ms []float64
			for b.Loop() {
				b.StopTimer()
				targets := flock(b, w, n, "/bin/sleep", "600")
				b.StartTimer()
				begin := time.Now()
				kill := e.Do(context.Background(), Request{KillID: "k", Mode: wire.ModeEnforce, Scope: wire.ScopeTree,
					Grace: longGrace, Targets: targets})
				ms = append(ms, float64(time.Since(begin))/1e6)
				if kill.Outcome != wire.KillDone || len(kill.Processes) != n {
					b.Fatalf("got %+v", kill)
				}
			}
			percentiles(b, "ms", ms)
		})
	}
}

// BenchmarkGrace is how long after its grace of 50 ms a process is dead that ignores
// SIGTERM.
func BenchmarkGrace(b *testing.B) {
	w := newWorld(b)
	tree := &alone{}
	e := Enforcer{Identity: w, Tree: tree, Protector: tree}
	const grace = 50 * time.Millisecond
	var late []float64
	for b.Loop() {
		b.StopTimer()
		targets := flock(b, w, 1, "/bin/sh", "-c", "trap '' TERM; exec sleep 600")
		pid := targets[0].ID.PID
		w.eventually("it ignores SIGTERM", func() bool {
			st, err := w.fs.Stat(pid)
			return err == nil && st.Ignores(unix.SIGTERM) && st.Comm.String() == "sleep"
		})
		b.StartTimer()
		kill := e.Do(context.Background(), Request{Mode: wire.ModeEnforce, Grace: grace, Targets: targets})
		late = append(late, kill.Processes[0].WaitMS-50)
	}
	percentiles(b, "ms-late", late)
}

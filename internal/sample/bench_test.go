// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/shirou/gopsutil/v3/process"

	"github.com/abot-trace/abot-trace/internal/event"
)

// crowds are the numbers of processes that the passes are measured with. The crowd
// of 10,000 is made only when ABOT_BENCH_CROWD allows it.
func crowds() []int {
	most, err := strconv.Atoi(os.Getenv("ABOT_BENCH_CROWD"))
	if err != nil {
		most = 1000
	}
	var out []int
	for _, n := range []int{100, 1000, 10000} {
		if n <= most {
			out = append(out, n)
		}
	}
	return out
}

// crowd starts n sleeping processes, all of which end with the test: each is a child
// of one shell, whose pid it returns, and reads from a pipe that only this process
// holds.
func crowd(b testing.TB, n int) (shell int) {
	b.Helper()
	// A background job's own standard input would be /dev/null.
	const script = `exec 3<&0; i=0; while [ $i -lt $0 ]; do cat <&3 & i=$((i+1)); done; echo ready; wait`
	cmd := exec.Command("sh", "-c", script, strconv.Itoa(n))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	var ready string
	if _, err := fmt.Fscanln(out, &ready); err != nil {
		b.Fatal(err)
	}
	return cmd.Process.Pid
}

// benchSource measures passes over the processes that run now, through any source.
func benchSource(b *testing.B, source TaskSource) {
	b.ReportAllocs()
	sampler := NewSampler(source, nil)
	var pass *Pass
	for b.Loop() {
		var err error
		if pass, err = sampler.Pass(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(pass.Len()), "ns/process")
}

// slice is a source without cost of its own: what remains is ours.
type slice []event.Task

func (s slice) Tasks(yield func(event.Task)) error {
	for _, t := range s {
		yield(t)
	}
	return nil
}

func BenchmarkPass(b *testing.B) {
	for _, n := range crowds() {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			crowd(b, n)
			var now slice
			if err := (Procfs{}).Tasks(func(t event.Task) { now = append(now, t) }); err != nil {
				b.Fatal(err)
			}
			b.Run("source=slice", func(b *testing.B) { benchSource(b, now) })
			b.Run("source=procfs", func(b *testing.B) { benchSource(b, Procfs{}) })
			b.Run("source=procfs-stat", func(b *testing.B) { benchSource(b, Procfs{NoSwap: true}) })
			b.Run("peer=gopsutil", benchGopsutil)
			b.Run("peer=ps", func(b *testing.B) {
				for b.Loop() {
					ps := exec.Command("ps", "-eo", "pid,ppid,rss,size,time,stat,comm")
					if err := ps.Run(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// benchGopsutil asks the library for the same figures, process by process.
func benchGopsutil(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		all, err := process.Processes()
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range all {
			_, _ = p.Ppid()
			_, _ = p.MemoryInfo()
			_, _ = p.Times()
			_, _ = p.NumThreads()
			_, _ = p.Status()
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// BenchmarkTasks looks at all processes that there are, with 1,000 that sleep.
func BenchmarkTasks(b *testing.B) {
	cmd := exec.Command("sh", "-c", `exec 3<&0; i=0; while [ $i -lt 1000 ]; do cat <&3 & i=$((i+1)); done; echo ready; wait`)
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
	defer func() {
		in.Close()
		_ = cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 16)); err != nil {
		b.Fatal(err)
	}
	p, err := Open(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	b.Run("tasks", func(b *testing.B) {
		benchLook(b, func() (int, error) {
			tasks, err := p.Tasks()
			return len(tasks), err
		})
	})
	b.Run("each", func(b *testing.B) {
		benchLook(b, func() (n int, err error) {
			err = p.EachTask(func(event.Task) { n++ })
			return n, err
		})
	})
}

// benchLook tells the time of a look, and its CPU time, which a busy machine changes
// less, for each process.
func benchLook(b *testing.B, look func() (int, error)) {
	b.ReportAllocs()
	n, before := 0, cpuTime(b)
	for b.Loop() {
		var err error
		if n, err = look(); err != nil {
			b.Fatal(err)
		}
	}
	looks := float64(b.N) * float64(n)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/looks, "ns/process")
	b.ReportMetric(float64(cpuTime(b)-before)/looks, "cpu-ns/process")
}

func cpuTime(b *testing.B) int64 {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return use.Utime.Nano() + use.Stime.Nano()
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os/exec"
	"testing"

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
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			tasks, err := p.Tasks()
			if err != nil {
				b.Fatal(err)
			}
			n = len(tasks)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/process")
	})
	b.Run("each", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n = 0
			if err := p.EachTask(func(event.Task) { n++ }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/process")
	})
}

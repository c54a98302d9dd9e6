// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// BenchmarkSuperviseTrue is start-up and shutdown: a supervised true, beside a
// bare one and the peers.
func BenchmarkSuperviseTrue(b *testing.B) {
	list := append(peers(b), peer{"bare", nil})
	for _, p := range list {
		b.Run(p.name, func(b *testing.B) {
			argv := append(p.argv[:len(p.argv):len(p.argv)], "true")
			for b.Loop() {
				if err := exec.Command(argv[0], argv[1:]...).Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSuperviseStop is the time from TERM to the supervisor's end, with a
// command that leaves at once.
func BenchmarkSuperviseStop(b *testing.B) {
	for _, p := range peers(b) {
		b.Run(p.name, func(b *testing.B) {
			var total time.Duration
			for b.Loop() {
				cmd, ready := startReady(b, append(p.argv[:len(p.argv):len(p.argv)], "sh", "-c", "echo ready; exec sleep 600")...)
				ready(1)
				began := time.Now()
				if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
					b.Fatal(err)
				}
				_ = cmd.Wait() // by the signal
				total += time.Since(began)
			}
			b.ReportMetric(float64(total.Microseconds())/float64(b.N), "stop-us/op")
		})
	}
}

// BenchmarkSuperviseManyTrees stops many trees of 50 processes at once: 200 of
// them, or as ABOT_TRACE_BENCH_TREES says. A tree's processes hold its standard
// output, so its end of file proves that they are gone.
func BenchmarkSuperviseManyTrees(b *testing.B) {
	trees := 200
	if s := os.Getenv("ABOT_TRACE_BENCH_TREES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 200 {
			b.Fatalf("ABOT_TRACE_BENCH_TREES=%s: want 1 to 200", s)
		}
		trees = n
	}
	const processes = 50 // with the shell that starts them
	binary := buildBinary(b)
	script := "i=1; while test $i -lt " + strconv.Itoa(processes) + "; do setsid sleep 600 & i=$((i+1)); done; echo ready; wait"
	var total time.Duration
	for b.Loop() {
		cmds := make([]*exec.Cmd, trees)
		ready := make([]func(int), trees)
		for i := range cmds {
			cmds[i], ready[i] = startReady(b, binary, "supervise", "--grace", "60s", "--", "sh", "-c", script)
		}
		for _, f := range ready {
			f(1)
		}
		began := time.Now()
		for _, cmd := range cmds {
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				b.Fatal(err)
			}
		}
		for i, cmd := range cmds {
			_ = cmd.Wait()
			ready[i](0)
		}
		total += time.Since(began)
	}
	b.ReportMetric(total.Seconds()/float64(b.N), "stop-all-s/op")
	b.ReportMetric(float64(trees*processes), "processes")
}

// startReady starts a command; the function waits for that many lines of its
// output, and with 0 for the end of it, when all that hold it are gone.
func startReady(b *testing.B, argv ...string) (*exec.Cmd, func(lines int)) {
	b.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	w.Close()
	b.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // refused if it has ended
		_, _ = cmd.Process.Wait()
		r.Close()
	})
	lines := bufio.NewReader(r)
	return cmd, func(n int) {
		b.Helper()
		if err := r.SetReadDeadline(time.Now().Add(2 * proctest.Patience)); err != nil {
			b.Fatal(err)
		}
		for range n {
			if line, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
				b.Fatalf("got %q, %v", line, err)
			}
		}
		if n == 0 {
			if _, err := io.Copy(io.Discard, lines); err != nil {
				b.Fatal("processes of a tree are left: ", err)
			}
		}
	}
}

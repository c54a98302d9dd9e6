// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A delay is the time from a parent's death, as the kernel stamped it, to a line that
// says so in the hands of a reader; us.
type delay struct{ idle, busy []float64 }

// delays measures n orphanings without and with a storm beside them.
func (b *bench) delays(n int, listen func(context.Context, func(us float64)) (ready chan struct{}, done chan error, err error)) (delay, error) {
	var d delay
	for _, busy := range []bool{false, true} {
		var got []float64
		var mu sync.Mutex
		ctx, cancel := context.WithCancel(context.Background())
		ready, done, err := listen(ctx, func(us float64) {
			mu.Lock()
			got = append(got, us)
			mu.Unlock()
		})
		if err != nil {
			cancel()
			return d, err
		}
		select {
		case <-ready:
		case err := <-done:
			cancel()
			return d, fmt.Errorf("listen: %w", err)
		case <-time.After(patience):
			cancel()
			<-done
			return d, errNotReady
		}
		err = b.orphanings(n, busy)
		_ = await(func() bool { mu.Lock(); defer mu.Unlock(); return len(got) >= n })
		cancel()
		<-done
		if err != nil {
			return d, err
		}
		if busy {
			d.busy = got
		} else {
			d.idle = got
		}
	}
	return d, nil
}

// orphanings makes n orphans.
func (b *bench) orphanings(n int, busy bool) error {
	return b.beside(busy, func() error {
		_, err := b.runJob(storm{kind: "orphan", count: n}, 0)
		return err
	})
}

// beside runs fn, with busy while one processor forks without a pause.
func (b *bench) beside(busy bool, fn func() error) error {
	stop := make(chan struct{})
	stopped := make(chan error, 1)
	go func() {
		defer close(stopped)
		for busy {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := b.runJob(storm{kind: "exec", count: 1000}, 1); err != nil {
				stopped <- err
				return
			}
		}
	}()
	err := fn()
	close(stop)
	if stormErr := <-stopped; err == nil {
		err = stormErr
	}
	return err
}

// listenOurs follows the daemon's orphanings of the workload.
func (b *bench) listenOurs(ctx context.Context, got func(float64)) (chan struct{}, chan error, error) {
	client := api.NewClient(b.socket)
	ready, done := make(chan struct{}), make(chan error, 1)
	since := boottime.Now()
	go func() {
		done <- client.Lines(ctx, []string{wire.TypeOrphan}, since, true, func(lines []byte) error {
			now := boottime.Now() // the line is in hand, as the peer's is
			for line := range bytes.Lines(lines) {
				var e wire.Event
				if err := json.Unmarshal(line, &e); err != nil {
					return err
				}
				if e.Process.Comm == "storm" {
					got(float64(now-e.TimeNS) / 1e3)
				}
			}
			return nil
		})
	}()
	close(ready) // what comes before the answer is remembered by the daemon
	return ready, done, nil
}

// listenBpftrace reads the exits of the workload as a one-liner prints them: what
// made an orphan it cannot say.
func (b *bench) listenBpftrace(ctx context.Context, got func(float64)) (chan struct{}, chan error, error) {
	const script = `BEGIN { printf("ready\n"); }
tracepoint:sched:sched_process_exit /comm == "storm" && pid == tid/ { printf("exit %llu %d\n", nsecs, pid); }`
	argv := withTracefs("bpftrace", "-B", "line", "-e", script)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			now := monotonic()
			fields := strings.Fields(lines.Text())
			switch {
			case len(fields) == 1 && fields[0] == "ready":
				close(ready)
			case len(fields) == 3 && fields[0] == "exit":
				if ns, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
					got(float64(now-ns) / 1e3)
				}
			}
		}
		done <- cmd.Wait()
	}()
	return ready, done, nil
}

func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

// worked measures how long fn takes, in ms, n times.
func worked(n int, fn func() error) ([]float64, error) {
	var ms []float64
	for range n {
		began := time.Now()
		if err := fn(); err != nil {
			return nil, err
		}
		ms = append(ms, float64(time.Since(began).Microseconds())/1e3)
	}
	return ms, nil
}

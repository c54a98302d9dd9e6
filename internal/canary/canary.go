// SPDX-License-Identifier: Apache-2.0

// Package canary proves that the stream of records is alive, by a process of its own now and
// then: "active" with zero events must not be possible.
package canary

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/tracker"
)

// Interval is how often a process is made. It feeds the watchdog, so it is well below it.
const Interval = 10 * time.Second

// A Canary makes the processes, and takes note of those that are seen. Its process forks
// and fails to exec, which costs a few dozen microseconds, needs no program, and is seen as
// a fork and an exit. Tick and ObserveFork belong to the loop.
type Canary struct {
	pid    int32
	next   time.Time
	busy   atomic.Bool
	seen   atomic.Pointer[time.Time] // with its monotonic reading: the wall clock steps
	failed atomic.Pointer[error]     // why there could be none, nil when there was
}

// New returns a canary that makes its first process at the first Tick.
func New() *Canary { return &Canary{pid: int32(os.Getpid())} }

// Tick makes a process if one is due.
func (c *Canary) Tick(now time.Time) {
	if now.Before(c.next) || !c.busy.CompareAndSwap(false, true) {
		return
	}
	c.next = now.Add(Interval)
	go func() {
		defer c.busy.Store(false)
		// The path cannot exist: nothing is ever run. The error is the point.
		_, err := syscall.ForkExec("/dev/null/canary", []string{"canary"}, &syscall.ProcAttr{})
		if errors.Is(err, unix.ENOTDIR) {
			c.failed.Store(nil)
			return
		}
		c.failed.Store(&err)
	}()
}

// ObserveFork takes note of a process that this one made.
func (c *Canary) ObserveFork(p *tracker.Process) {
	if p.Spawner.PID == c.pid {
		now := time.Now()
		c.seen.Store(&now)
	}
}

// LastSeen is when a canary was last seen, as the wall clock counts by now; from any
// goroutine.
func (c *Canary) LastSeen() time.Time {
	seen := c.seen.Load()
	if seen == nil {
		return time.Time{}
	}
	now := time.Now()
	return now.Add(-now.Sub(*seen))
}

// Err says why the last canary could not be made: a silent stream proves nothing then.
// From any goroutine.
func (c *Canary) Err() error {
	if err := c.failed.Load(); err != nil {
		return fmt.Errorf("the canary cannot be made: %w", *err)
	}
	return nil
}

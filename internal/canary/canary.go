// SPDX-License-Identifier: Apache-2.0

package trace

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

// canaryInterval is how often the tracer makes a process of its own and expects to
// see it. It feeds the watchdog, so it is well below it.
const canaryInterval = 10 * time.Second

// A canary proves that the stream is alive: "active" with zero events must not be
// possible. Its process forks and fails to exec, which costs a few dozen
// microseconds, needs no program, and is seen as a fork and an exit.
type canary struct {
	pid    int32
	next   time.Time
	busy   atomic.Bool
	seen   atomic.Pointer[time.Time] // with its monotonic reading: the wall clock steps
	failed atomic.Pointer[error]     // why there could be none, nil when there was
}

func (c *canary) init() { c.pid = int32(os.Getpid()) }

func (c *canary) tick(now time.Time) {
	if now.Before(c.next) || !c.busy.CompareAndSwap(false, true) {
		return
	}
	c.next = now.Add(canaryInterval)
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

// observeFork takes note of a process that this one made.
func (c *canary) observeFork(p *tracker.Process) {
	if p.Spawner.PID == c.pid {
		now := time.Now()
		c.seen.Store(&now)
	}
}

// lastSeen is when a canary was last seen, as the wall clock counts by now.
func (c *canary) lastSeen() time.Time {
	seen := c.seen.Load()
	if seen == nil {
		return time.Time{}
	}
	now := time.Now()
	return now.Add(-now.Sub(*seen))
}

// err says why the last canary could not be made: a silent stream proves nothing then.
func (c *canary) err() error {
	if err := c.failed.Load(); err != nil {
		return fmt.Errorf("the canary cannot be made: %w", *err)
	}
	return nil
}

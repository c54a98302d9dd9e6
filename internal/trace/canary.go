// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/abot-trace/abot-trace/internal/tracker"
)

// canaryInterval is how often the tracer makes a process of its own and expects to
// see it. It feeds the watchdog, so it is well below it.
const canaryInterval = 10 * time.Second

// A canary proves that the stream is alive: "active" with zero events must not be
// possible. Its process forks and fails to exec, which costs a few dozen
// microseconds, needs no program, and is seen as a fork and an exit.
type canary struct {
	pid  int32
	next time.Time
	busy atomic.Bool
	seen atomic.Int64 // unix ns
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
		_, _ = syscall.ForkExec("/dev/null/canary", []string{"canary"}, &syscall.ProcAttr{})
	}()
}

// sawFork takes note of a process that this one made.
func (c *canary) sawFork(p *tracker.Process) {
	if p.Spawner.PID == c.pid {
		c.seen.Store(time.Now().UnixNano())
	}
}

func (c *canary) lastSeen() time.Time {
	if ns := c.seen.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

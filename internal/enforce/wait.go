// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// burst is how long the first of those who are to die is waited for alone. They mostly
// die together, and to wake up for each would take from them the processor that they
// die on. When the others have died is then known to within this time.
const burst = 2 * time.Millisecond

// wait returns when those picked are dead, at the deadline, or when the context
// ends. It notes who has died. Beyond the burst it takes no thread.
func (k *kill) wait(deadline time.Time, pick func(*member) bool) {
	if first := k.which(pick); len(first) > 0 && k.ctx.Err() == nil {
		k.waitBriefly(first[0], earlier(deadline, time.Now().Add(burst)))
	}
	for k.ctx.Err() == nil {
		members := k.which(pick)
		if len(members) == 0 {
			return
		}
		late := !time.Now().Before(deadline)
		if err := k.watch.add(members); err != nil {
			k.markPartial("wait", err)
			return
		}
		if err := k.watch.wait(k.ctx, deadline); err != nil {
			k.markPartial("wait", err)
			return
		}
		if late {
			return
		}
	}
}

// waitBriefly waits for one alone.
func (k *kill) waitBriefly(m *member, until time.Time) {
	fds := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}
	timeout := unix.NsecToTimespec(int64(max(0, time.Until(until))))
	// An interruption only shortens it.
	if n, err := unix.Ppoll(fds, &timeout, nil); err == nil && n > 0 {
		m.died()
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// A dead process is looked at for having been reaped at growing intervals: no event
// says so.
const (
	firstLook = 100 * time.Microsecond
	lastLook  = 10 * time.Millisecond
)

// settle tells the dead from the zombies: their parents had time to reap them.
func (k *kill) settle() {
	zombies := k.unreaped(k.members)
	deadline := time.Now().Add(k.reapWait())
	for look := firstLook; len(zombies) > 0 && time.Now().Before(deadline); look = min(2*look, lastLook) {
		select {
		case <-time.After(look):
		case <-k.ctx.Done():
			deadline = time.Now()
		}
		zombies = k.unreaped(zombies)
	}
	for _, m := range zombies {
		m.end(wire.OutcomeZombie, unreapedBy(k.FS, m.ID.PID))
	}
}

// unreaped returns those of the dead that still have their pid.
func (k *kill) unreaped(members []*member) (zombies []*member) {
	for _, m := range members {
		dead := m.outcome == wire.OutcomeDied || m.outcome == wire.OutcomeVanished
		if dead && m.fd >= 0 && !errors.Is(pidfdSend(m.fd, 0), unix.ESRCH) {
			zombies = append(zombies, m)
		}
	}
	return zombies
}

// unreapedBy names the parent of a zombie, as text for its outcome.
func unreapedBy(fs procfs.FS, pid int32) error {
	st, err := fs.Stat(pid)
	if err != nil {
		return fmt.Errorf("not reaped: %w", err)
	}
	parent, err := fs.Stat(st.PPID)
	if err != nil {
		return fmt.Errorf("not reaped by pid %d", st.PPID)
	}
	return fmt.Errorf("not reaped by pid %d (%s)", st.PPID, parent.Comm)
}

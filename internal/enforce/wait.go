// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A waker makes the end of a context something that poll sees.
type waker struct {
	fd   int // eventfd, readable from the end of the context on
	stop func() bool
	done chan struct{} // closed when the context's end has been written
}

func newWaker(ctx context.Context) (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &waker{fd: fd, done: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.done)
		// A write of 1 to a counter that is 0 cannot fail.
		unix.Write(fd, []byte{1, 1, 1, 1, 1, 1, 1, 1})
	})
	return w, nil
}

func (w *waker) close() {
	if !w.stop() {
		<-w.done // the descriptor must not be written to once it is another's
	}
	unix.Close(w.fd)
}

// burst is how long the first of those who are to die is waited for alone. They mostly
// die together, and to wake up for each would take from them the processor that they
// die on. When the others have died is then known to within this time.
const burst = 2 * time.Millisecond

// wait returns when those picked are dead, at the deadline, or when the context
// ends. It notes who has died.
func (k *kill) wait(deadline time.Time, pick func(*member) bool) {
	for began := time.Now(); k.ctx.Err() == nil; {
		members := k.which(pick)
		if len(members) == 0 {
			return
		}
		until := deadline
		if alone := began.Add(burst); time.Now().Before(alone) {
			members, until = members[:1], earlier(deadline, alone)
		}
		fds := make([]unix.PollFd, len(members)+1)
		for i, m := range members {
			fds[i] = unix.PollFd{Fd: int32(m.fd), Events: unix.POLLIN}
		}
		fds[len(members)] = unix.PollFd{Fd: int32(k.wake.fd), Events: unix.POLLIN}
		left := max(0, time.Until(until))
		timeout := unix.NsecToTimespec(int64(left))
		if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && err != unix.EINTR {
			k.markPartial("poll", err)
			return
		}
		for i, m := range members {
			if fds[i].Revents&unix.POLLIN != 0 {
				m.died()
			}
		}
		if left == 0 && until.Equal(deadline) {
			return
		}
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

// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// signals splits what arrives over channels, so that a flood of one kind cannot
// push out another.
type signals struct {
	child   chan os.Signal
	ends    chan os.Signal
	forward chan os.Signal
	ignored chan os.Signal
}

// notify starts catching signals. HUP stays ignored where it was when the
// program began (nohup). INT and QUIT are taken even then: a shell script ignores
// them in what it puts in the background, yet a supervisor is there to be told.
//
// SIGPIPE is caught only to survive it: without a handler a closed standard error
// would kill the supervisor and orphan the tree. None is ignored, for that is
// inherited by CMD.
func notify() *signals {
	s := &signals{
		child:   make(chan os.Signal, 1),
		ends:    make(chan os.Signal, 16),
		forward: make(chan os.Signal, 64),
		ignored: make(chan os.Signal, 1),
	}
	signal.Notify(s.child, unix.SIGCHLD)
	signal.Notify(s.ends, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	if !signal.Ignored(unix.SIGHUP) {
		signal.Notify(s.ends, unix.SIGHUP)
	}
	signal.Notify(s.forward, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	signal.Notify(s.ignored, unix.SIGPIPE)
	return s
}

func (s *signals) close() {
	for _, c := range []chan os.Signal{s.child, s.ends, s.forward, s.ignored} {
		signal.Stop(c)
	}
}

// wait handles signals and reaps children until done reports true or the
// deadline passes; the zero deadline never does. It reports what done last said.
func (s *supervisor) wait(deadline time.Time, done func() bool) bool {
	var timeout <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		s.reap()
		if done() {
			return true
		}
		select {
		case <-s.signals.child:
		case sig := <-s.signals.ends:
			s.onEnd(sig.(unix.Signal))
		case sig := <-s.signals.forward:
			s.onForward(sig.(unix.Signal))
		case <-timeout:
			return false
		}
	}
}

// doubleTime is how far apart the two signals of timeout(1) may come, which signals its
// child and then the group that the child is in. People are slower.
const doubleTime = 50 * time.Millisecond

// onEnd notes that someone wants the tree to end.
func (s *supervisor) onEnd(sig unix.Signal) {
	switch {
	case s.stop == 0:
		s.stop, s.since = sig, time.Now()
	case sig == s.stop && !s.doubled && time.Since(s.since) < doubleTime:
		s.doubled = true
	case sig == unix.SIGTERM || sig == unix.SIGINT:
		s.hurry++
	}
}

// onForward passes a signal on: those of job control to CMD's process group, as
// a terminal would, the others to CMD alone. While CMD is not reaped its pid and
// group cannot name anything else.
func (s *supervisor) onForward(sig unix.Signal) {
	if s.main.done || s.main.pid == 0 {
		return
	}
	switch sig {
	case unix.SIGUSR1, unix.SIGUSR2:
		_ = unix.Kill(s.main.pid, sig) // it may be a zombie already
	case unix.SIGCONT:
		s.resume()
	case unix.SIGTSTP:
		s.stopAsked = true
		_ = unix.Kill(-s.main.pid, sig)
	default:
		_ = unix.Kill(-s.main.pid, sig)
	}
}

// reap collects every child that has ended, our own and adopted ones, and every
// stop of CMD. Nothing else in the process may wait for children.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WUNTRACED|unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		s.childless = err == unix.ECHILD
		if err != nil || pid == 0 {
			return
		}
		if status.Stopped() {
			if pid == s.main.pid {
				s.onMainStopped(status.StopSignal())
			}
			continue
		}
		s.reaped++
		if pid == s.main.pid && !s.main.done {
			s.main.done, s.main.status = true, status
		}
		if s.hook != nil && pid == s.hook.pid && !s.hook.done {
			s.hook.done, s.hook.status = true, status
		}
	}
}

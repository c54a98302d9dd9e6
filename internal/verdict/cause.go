// SPDX-License-Identifier: Apache-2.0

package verdict

import "golang.org/x/sys/unix"

// A cause is how a spawner ended, as far as it matters.
type cause uint8

const (
	causeKilled  cause = iota // by a signal, also a crash, or by the OOM killer
	causeFailed               // with an exit code other than 0
	causeLeft                 // with exit code 0
	causeStep                 // a step of its parent's code was done
	causeHangup               // its terminal hung up
	causeStopped              // the init or a service manager ended it
)

// cause tells how the spawner ended. Whoever never executed since its fork is a step of
// its parent's code where it left in order, was asked to end, or was ended by its parent
// that lives: daemon(3), the helper of a D-Bus activation. One that crashed or that
// somebody else killed is a worker like any program.
func (f *Facts) cause() cause {
	l := &f.Leaker
	switch {
	case l.OOM:
		return causeKilled
	case l.Signal.By == ByManager || l.Asked.By == ByManager:
		return causeStopped
	case l.NeverExeced && l.isStep():
		return causeStep
	case l.hungUp():
		return causeHangup
	case l.Status.Signaled():
		return causeKilled
	case l.Status.Code() != 0:
		return causeFailed
	default:
		return causeLeft
	}
}

func (l *Leaker) isStep() bool {
	if !l.Status.Signaled() {
		return l.Status.Code() == 0 || l.Asked.Signal != 0
	}
	return l.endedBySpawner() || asksToEnd(l.Status.Signal()) && l.Signal.By != ByItself && l.Signal.By != ByKernel
}

func (l *Leaker) endedBySpawner() bool { return l.Status.Signaled() && l.Signal.By == BySpawner }

// hungUp reports whether the hangup of a terminal ended it: the kernel or whoever spawned
// it, which held the terminal's other side, says so.
func (l *Leaker) hungUp() bool {
	by := func(s *Sent) bool {
		return s.Signal == unix.SIGHUP && (s.By == ByTerminal || s.By == BySpawner)
	}
	if l.Status.Signaled() {
		return l.Status.Signal() == unix.SIGHUP && by(&l.Signal)
	}
	return by(&l.Asked)
}

// asksToEnd reports whether a signal is an orderly request.
func asksToEnd(sig unix.Signal) bool {
	switch sig {
	case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
		return true
	}
	return false
}

// LeftInOrder reports whether the launcher of the orphan was done, of its own will: whoever
// lives above it may still be who it belongs to.
func (f *Facts) LeftInOrder() bool {
	c := f.cause()
	return f.Leaker.StatusKnown && (c == causeLeft || c == causeStep || c == causeHangup)
}

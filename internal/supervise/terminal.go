// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// terminal is the controlling terminal. Its methods do nothing on nil, which
// stands for none.
//
// CMD lives in a process group of its own, so job control needs a hand: the
// terminal is given to CMD while we are in its foreground, a stop of CMD stops us
// too, for the shell above watches us, and a continue goes the other way.
type terminal struct {
	fd    int
	given bool
}

func openTerminal() *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return &terminal{fd: fd}
}

func (t *terminal) close() {
	if t != nil {
		unix.Close(t.fd)
	}
}

// ours reports whether our process group is in the foreground.
func (t *terminal) ours() bool {
	if t == nil {
		return false
	}
	pgrp, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}

// interactive reports whether CMD should own the terminal from its first
// instruction: we are in the foreground and input and output are terminals. In a
// pipeline another member may want it; CMD then gets it when it asks.
func (t *terminal) interactive() bool { return t.ours() && isTerminal(0) && isTerminal(1) }

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// setForeground puts a process group in the foreground. SIGTTOU is blocked
// meanwhile, for it would stop us when we are in the background.
func (t *terminal) setForeground(pgrp int) error {
	if t == nil {
		return unix.ENOTTY
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, old unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old); err != nil {
		return err
	}
	err := unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgrp)
	if merr := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err == nil {
		err = merr
	}
	return err
}

func (t *terminal) noteGiven(given bool) {
	if t != nil {
		t.given = t.given || given
	}
}

// give puts CMD's group in the foreground if ours is there.
func (t *terminal) give(pgrp int) bool {
	if !t.ours() || t.setForeground(pgrp) != nil {
		return false
	}
	t.given = true
	return true
}

// takeBack returns the terminal to our group when CMD is done with it, for the
// hooks and for what runs after us in the same script.
func (t *terminal) takeBack(done bool) {
	if t != nil && t.given && done {
		_ = t.setForeground(unix.Getpgrp())
		t.given = false
	}
}

// onMainStopped follows a stop of CMD: one that asks for the terminal which is
// ours to give gets it, any other stops us too.
func (s *supervisor) onMainStopped(sig unix.Signal) {
	if s.tty == nil || s.stop != 0 || s.main.done || sig == unix.SIGSTOP {
		return
	}
	// Where a TSTP came first it met a CMD that was stopped already, and says
	// what is wanted.
	if (sig == unix.SIGTTIN || sig == unix.SIGTTOU) && !s.stopAsked && s.tty.ours() {
		s.resume()
		return
	}
	s.suspend()
}

// resume continues CMD, in the foreground if that is where we are.
func (s *supervisor) resume() {
	s.stopAsked = false
	s.tty.give(s.main.pid)
	_ = unix.Kill(-s.main.pid, unix.SIGCONT)
}

// suspend stops our own process group as the terminal would have done, and
// resumes CMD when somebody continues us. Where nobody could (the group is
// orphaned: no shell with job control above us) the kernel ignores the stop, and
// CMD goes on at once.
func (s *supervisor) suspend() {
	restore, err := defaultAction(unix.SIGTSTP)
	if err != nil {
		s.resume()
		return
	}
	defer restore()
	_ = unix.Kill(0, unix.SIGTSTP)
	// The stop may come an instant later, on another thread.
	timeout := time.NewTimer(100 * time.Millisecond)
	defer timeout.Stop()
	for {
		select {
		case sig := <-s.signals.forward:
			if sig != os.Signal(unix.SIGCONT) {
				continue
			}
		case <-timeout.C:
		}
		s.resume()
		return
	}
}

// defaultAction gives sig its default action until restore is called. os/signal
// cannot: after Reset the runtime's handler stays and swallows a stop signal.
func defaultAction(sig unix.Signal) (restore func(), err error) {
	// The kernel's struct sigaction on 64-bit machines; all zero is SIG_DFL.
	var dfl, old [4]uint64
	if err := sigaction(sig, &dfl, &old); err != nil {
		return nil, err
	}
	return func() { _ = sigaction(sig, &old, nil) }, nil
}

func sigaction(sig unix.Signal, action, old *[4]uint64) error {
	const maskBytes = 8
	_, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(action)), uintptr(unsafe.Pointer(old)), maskBytes, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package descend

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Signal sends sig to the process p that Walk or Read found, and to no other.
// It opens a pidfd, and only then compares start and parent with p: were the pid
// reused before the opening, the comparison fails; were it reused after, the
// pidfd still names the dead process. A process whose parent has changed since,
// other than to the caller as its subreaper, is refused as ErrGone: the next walk
// finds it anew. The start alone would not do, for a tick is 10 ms.
//
// The error is ErrGone when p has ended and wraps EPERM when the caller may not
// signal p.
func Signal(p Proc, sig unix.Signal) error {
	fd, err := Open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return SignalFD(fd, sig)
}

// Open returns a pidfd of p, verified as Signal describes. The caller closes it.
func Open(p Proc) (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.EINVAL) {
		// No process has this number, which the kernel still remembers.
		return -1, ErrGone
	}
	if err != nil {
		return -1, pidError(p.PID, "pidfd", err)
	}
	now, err := Read(p.PID)
	if err == nil && (now.Start != p.Start || now.PPID != p.PPID && now.PPID != os.Getpid()) {
		err = ErrGone
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// SignalFD sends sig through a pidfd.
func SignalFD(fd int, sig unix.Signal) error {
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return pidError(-1, sig.String(), err)
	}
	return nil
}

func pidError(pid int, what string, err error) error {
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	if pid < 0 {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s of process %d: %w", what, pid, err)
}

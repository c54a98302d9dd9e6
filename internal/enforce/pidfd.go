// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rawsys"
)

// pidfdOpen opens a pidfd; ESRCH means that there is no such process. For a number
// that has no process any more and is still remembered, as that of a session or a
// thread is, the kernel says EINVAL (5.10 does so for whoever was just reaped).
func pidfdOpen(pid int32) (int, error) {
	fd, err := rawsys.PidfdOpen(pid)
	if err == unix.EINVAL && pid > 0 {
		err = unix.ESRCH
	}
	return fd, err
}

// pidfdSend sends sig to the process of the pidfd; 0 asks whether it could. ESRCH
// means that the process was reaped; a zombie takes every signal.
func pidfdSend(fd int, sig unix.Signal) error { return rawsys.PidfdSendSignal(fd, sig) }

// ended reports whether the process of the pidfd is dead: all its threads are.
func ended(fd int) bool { return rawsys.Readable(fd) }

// mrelease frees the memory of a process that is dying of SIGKILL, from outside: it
// may itself be too starved or stuck to do so. EINVAL means that it is not dying,
// ESRCH that its memory is gone already, ENOSYS a kernel before 5.15.
//
// It can block as long as someone holds the memory map's lock.
func mrelease(fd int) error {
	_, _, errno := unix.Syscall(unix.SYS_PROCESS_MRELEASE, uintptr(fd), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// mreleaseAll frees the memory of the processes of the pidfds, in its own time and
// on its own copies of them: a process that is stuck must not hold up its killer.
// A refusal needs no answer: the memory then goes with the process, or its outcome
// says that it stays.
func mreleaseAll(fds []int) {
	copies := make([]int, 0, len(fds))
	for _, fd := range fds {
		if fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			copies = append(copies, fd)
		}
	}
	if len(copies) == 0 {
		return
	}
	go func() {
		for _, fd := range copies {
			mrelease(fd)
			unix.Close(fd)
		}
	}()
}

// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdOpen opens a pidfd; ESRCH means that there is no such process. For a number
// that has no process any more and is still remembered, as that of a session or a
// thread is, the kernel says EINVAL (5.10 does so for whoever was just reaped).
func pidfdOpen(pid int32) (int, error) {
	for {
		// Close-on-exec by itself. None of the calls on pidfds here waits for anyone, so
		// the scheduler is not told of them: that can take longer than they do.
		fd, _, errno := unix.RawSyscall(unix.SYS_PIDFD_OPEN, uintptr(pid), 0, 0)
		switch {
		case errno == 0:
			return int(fd), nil
		case errno == unix.EINVAL && pid > 0:
			return -1, unix.ESRCH
		case errno != unix.EINTR:
			return -1, errno
		}
	}
}

// pidfdSend sends sig to the process of the pidfd; 0 asks whether it could. ESRCH
// means that the process was reaped; a zombie takes every signal.
func pidfdSend(fd int, sig unix.Signal) error {
	if _, _, errno := unix.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(fd), uintptr(sig), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// ended reports whether the process of the pidfd is dead: all its threads are.
func ended(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	var now unix.Timespec
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		if errno != unix.EINTR {
			return errno == 0 && n == 1 && fds[0].Revents&unix.POLLIN != 0
		}
	}
}

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

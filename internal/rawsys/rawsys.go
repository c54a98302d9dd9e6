// SPDX-License-Identifier: Apache-2.0

// Package rawsys makes system calls that the Go scheduler is not told of. To tell it may
// wake the runtime's monitor thread, which takes longer than such a call, and takes the
// processor from whoever is to run next.
//
// That is allowed for calls that the kernel answers from memory, in a few microseconds, and
// never waits in: not for a disk, a terminal, a lock that a process can hold, or another
// process. What can wait (a process's environment or arguments, a file on a disk) is asked by
// package unix. A thread in a raw call cannot be preempted: one that blocks holds up the
// garbage collector, and with it everyone.
//
// Errors are errno values, without a name around them. EINTR is never returned.
package rawsys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Open opens a path that lies in memory: of procfs, or of a tmpfs. Close-on-exec is added to
// the flags.
func Open(dir int, path string, flags int, mode uint32) (fd int, err error) {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	for {
		fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
			uintptr(flags|unix.O_CLOEXEC), uintptr(mode), 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// Read reads from a file in memory, or from a descriptor that does not block.
func Read(fd int, buf []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Write writes to a file in memory or in the page cache, or to a descriptor that does not
// block.
func Write(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Send sends to a socket what it has room for, without a signal where nobody reads.
func Send(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Readlink reads a link of procfs.
func Readlink(path string, buf []byte) (int, error) {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return 0, err
	}
	dir := unix.AT_FDCWD
	n, _, errno := unix.RawSyscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0)
	return int(n), orNil(errno)
}

// Close closes what Open or PidfdOpen has opened.
func Close(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return orNil(errno)
}

// Exists reports whether some process or thread has the pid.
func Exists(pid int32) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_KILL, uintptr(pid), 0, 0)
	return errno != unix.ESRCH
}

// PidfdOpen opens a pidfd, close-on-exec (pidfd_open(2)).
func PidfdOpen(pid int32) (fd int, err error) {
	for {
		fd, _, errno := unix.RawSyscall(unix.SYS_PIDFD_OPEN, uintptr(pid), 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// PidfdSendSignal sends a signal through a pidfd; 0 asks whether it could be sent.
func PidfdSendSignal(fd int, sig unix.Signal) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(fd), uintptr(sig), 0, 0, 0, 0)
	return orNil(errno)
}

// Readable reports whether the descriptor is readable now: of a pidfd, that all threads of
// its process have ended.
func Readable(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	var now unix.Timespec
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		if errno != unix.EINTR {
			return errno == 0 && n == 1 && fds[0].Revents&unix.POLLIN != 0
		}
	}
}

// EpollPending fills events with those that wait by now, and returns how many.
func EpollPending(epoll int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	return int(n), orNil(errno)
}

// TimerfdSettime arms a timer of timerfd_create(2), relative to now.
func TimerfdSettime(fd int, at *unix.ItimerSpec) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(fd), 0, uintptr(unsafe.Pointer(at)), 0, 0, 0)
	return orNil(errno)
}

// ClockGettime reads a clock. It cannot fail with one that the kernel has.
func ClockGettime(clock int32) (ts unix.Timespec) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0)
	return ts
}

func orNil(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

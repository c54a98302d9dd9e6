// SPDX-License-Identifier: Apache-2.0

package rawsys

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	fd, err := Open(unix.AT_FDCWD, path, unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: not close-on-exec", flags, err)
	}
	if n, err := Write(fd, []byte("text")); n != 4 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if n, err := Read(fd, buf); err != nil || string(buf[:n]) != "text" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := Readlink("/proc/self/exe", buf); n != len(buf) || err != nil {
		t.Errorf("link: %d bytes, %v", n, err)
	}
	if _, err := Open(unix.AT_FDCWD, path+"/none", unix.O_RDONLY, 0); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("got %v, want ENOTDIR", err)
	}
	if _, err := Open(unix.AT_FDCWD, "a\x00b", unix.O_RDONLY, 0); err == nil {
		t.Error("a name with a NUL in it was opened")
	}
	for name, err := range map[string]error{"close": Close(-1), "timer": TimerfdSettime(-1, &unix.ItimerSpec{})} {
		if !errors.Is(err, unix.EBADF) {
			t.Errorf("%s: got %v, want EBADF", name, err)
		}
	}
}

// TestSend wants what a socket has no room for left to the caller, and a socket without a
// reader to be an error and no signal.
func TestSend(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(pair[0])
	b := make([]byte, 1<<20)
	for err == nil {
		_, err = Send(pair[0], b)
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a full socket: %v, want EAGAIN", err)
	}
	if err := Close(pair[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := Send(pair[0], b); !errors.Is(err, unix.EPIPE) {
		t.Errorf("without a reader: %v, want EPIPE", err)
	}
}

func TestPidfd(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := int32(cmd.Process.Pid)
	fd, err := PidfdOpen(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(fd)
	if !Exists(pid) || Readable(fd) {
		t.Error("it does not live, or its pidfd says that it ended")
	}
	if err := PidfdSendSignal(fd, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !Readable(fd) {
		t.Error("its pidfd does not say that it ended")
	}
	if err := PidfdSendSignal(fd, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("got %v, want ESRCH", err)
	}
	if Exists(1 << 23) {
		t.Error("a pid that Linux never gives exists")
	}
}

func TestEpollPending(t *testing.T) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(epoll)
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(timer)
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(timer)}); err != nil {
		t.Fatal(err)
	}
	var events [2]unix.EpollEvent
	if n, err := EpollPending(epoll, events[:]); n != 0 || err != nil {
		t.Errorf("%d pending, %v, before the timer was set", n, err)
	}
	if err := TimerfdSettime(timer, &unix.ItimerSpec{Value: unix.Timespec{Nsec: 1}}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := Read(timer, b); n != 8 || err != nil { // waits for it
		t.Errorf("read %d, %v", n, err)
	}
}

func TestClockGettime(t *testing.T) {
	var want unix.Timespec
	got := ClockGettime(unix.CLOCK_MONOTONIC)
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &want); err != nil || got.Nano() == 0 || got.Nano() > want.Nano() {
		t.Errorf("got %d, then %d, %v", got.Nano(), want.Nano(), err)
	}
}

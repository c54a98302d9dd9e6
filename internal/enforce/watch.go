// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A deathWatch waits for the deaths of many processes in the Go runtime's own poller: an
// epoll instance over their pidfds, which is polled itself. A kill whose tree takes its whole
// grace, an hour perhaps, so takes one descriptor more than its processes, and no thread.
// The zero value is ready for use; close it.
type deathWatch struct {
	file    *os.File
	members map[int32]*member // by pidfd, as long as their deaths are awaited
}

func (w *deathWatch) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the runtime does not poll it
		unix.Close(fd)
		return fmt.Errorf("epoll: %w", err)
	}
	w.file, w.members = os.NewFile(uintptr(fd), "epoll"), make(map[int32]*member)
	return nil
}

func (w *deathWatch) close() {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
}

// add watches those that are not watched yet.
func (w *deathWatch) add(members []*member) error {
	if w.file == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(epoll uintptr) {
		for _, m := range members {
			if w.members[int32(m.fd)] == m {
				continue
			}
			once := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(m.fd)}
			if failed = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, m.fd, &once); failed != nil {
				return
			}
			w.members[int32(m.fd)] = m
		}
	})
	return errors.Join(err, failed)
}

// wait returns when somebody who is watched has died, at the deadline, or when the context
// ends. It notes who has died, also after the deadline.
func (w *deathWatch) wait(ctx context.Context, deadline time.Time) error {
	file := w.file // what runs when the context ends may outlast this call, and close
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	err = raw.Control(func(epoll uintptr) { n = w.take(int(epoll)) })
	if err != nil || n > 0 {
		return err
	}
	if err := file.SetReadDeadline(deadline); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })()
	err = raw.Read(func(epoll uintptr) bool { return w.take(int(epoll)) > 0 })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// take notes who has died by now, and returns how many.
func (w *deathWatch) take(epoll int) int {
	var dead [128]unix.EpollEvent
	n, err := unix.EpollWait(epoll, dead[:], 0)
	if err != nil {
		return 0 // interrupted: the runtime asks again
	}
	for _, e := range dead[:n] {
		if m := w.members[e.Fd]; m.live() {
			m.died()
		}
		delete(w.members, e.Fd)
	}
	return n
}

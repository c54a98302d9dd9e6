// SPDX-License-Identifier: Apache-2.0

// Package otherend tells who is at the other ends of a process's pipes and sockets. It
// borrows their descriptors (pidfd_getfd, from 5.6), asks, and closes them at once. Only
// pipes and sockets are borrowed: to touch or to close a file of a server that hangs (FUSE,
// NFS) could block for ever. Nothing here is meant to block all the same; whoever cannot
// afford that it does asks on a goroutine of its own.
package otherend

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// A State is what is known of the other end of a descriptor.
type State uint8

// The states.
const (
	NotAPipe  State = iota // the descriptor is closed, or no pipe and no socket
	Held                   // a reader, a writer or a peer holds it
	Abandoned              // the kernel counts none
)

// A Borrower borrows descriptors of one process. It is not safe for concurrent use.
type Borrower struct {
	proc  *procfs.Process
	pidfd int
}

// New returns a borrower for the process, procfs.ErrGone where it is dead. It must be
// closed.
func New(id event.ID) (*Borrower, error) {
	pidfd, err := unix.PidfdOpen(int(id.PID), 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, procfs.ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	// Opened after the pidfd: what procfs has of that identity is the pidfd's process.
	proc, err := procfs.FS{}.OpenID(id)
	if err != nil {
		unix.Close(pidfd)
		return nil, err
	}
	return &Borrower{proc: proc, pidfd: pidfd}, nil
}

// Close gives the handle back.
func (b *Borrower) Close() {
	_ = b.proc.Close()
	_ = unix.Close(b.pidfd)
}

// borrow calls fn with a duplicate of the descriptor, where that is a pipe or a socket, and
// reports whether it was. It may have been replaced between the look at its type and the
// borrowing: so it is looked at again, by its name, which asks no file server.
func (b *Borrower) borrow(fd int, fn func(fd int) error) (bool, error) {
	name, err := b.proc.FD(fd)
	if err != nil || !isPipeOrSocket(name) {
		return false, err
	}
	own, err := unix.PidfdGetfd(b.pidfd, fd, 0)
	switch {
	case errors.Is(err, unix.EBADF):
		return false, nil // closed meanwhile
	case errors.Is(err, unix.ESRCH):
		return false, procfs.ErrGone
	case err != nil:
		return false, fmt.Errorf("pidfd_getfd: %w", err)
	}
	// Of another file the close could block: what is left of it is not ours to wait for.
	now, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(own))
	if err != nil || now != name {
		go unix.Close(own)
		return false, err
	}
	defer unix.Close(own)
	return true, fn(own)
}

func isPipeOrSocket(name string) bool {
	return strings.HasPrefix(name, "pipe:[") || strings.HasPrefix(name, "socket:[")
}

// State tells who is at the other end of the descriptor. It is right only once those who
// died have closed theirs, some ms after they were reported dead.
func (b *Borrower) State(fd int) (State, error) {
	state := NotAPipe
	_, err := b.borrow(fd, func(own int) error {
		poll := []unix.PollFd{{Fd: int32(own)}}
		if _, err := unix.Poll(poll, 0); err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		state = Held
		// A read end or a socket has POLLHUP without a writer or peer, a write end POLLERR
		// without a reader.
		if poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
			state = Abandoned
		}
		return nil
	})
	return state, err
}

// Stdio tells of descriptors 0, 1 and 2 of a process.
func Stdio(id event.ID) (states [3]State, err error) {
	b, err := New(id)
	if err != nil {
		return states, err
	}
	defer b.Close()
	for fd := range states {
		if states[fd], err = b.State(fd); err != nil {
			return states, err
		}
	}
	return states, nil
}

// maxSockets bounds how many sockets of a process are borrowed.
const maxSockets = 64

// Client reports whether one of the process's sockets is connected to one of the Unix
// sockets that server listens on.
func Client(id, server event.ID) (bool, error) {
	listening, err := listeningPaths(server)
	if err != nil || len(listening) == 0 {
		return false, err
	}
	b, err := New(id)
	if err != nil {
		return false, err
	}
	defer b.Close()
	fds, err := b.proc.FDs()
	if err != nil {
		return false, err
	}
	found, tried := false, 0
	for _, fd := range fds {
		borrowed, err := b.borrow(fd, func(own int) error {
			peer, err := unix.Getpeername(own)
			if a, ok := peer.(*unix.SockaddrUnix); err == nil && ok && a.Name != "" {
				found = found || listening[a.Name]
			}
			return nil
		})
		if err != nil && !errors.Is(err, procfs.ErrGone) {
			return false, err
		}
		if borrowed {
			tried++
		}
		if found || tried == maxSockets {
			break
		}
	}
	return found, nil
}

// listeningPaths are the names of the Unix sockets that the process listens on.
func listeningPaths(id event.ID) (map[string]bool, error) {
	p, err := procfs.FS{}.OpenID(id)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	listening, err := p.Listening()
	if err != nil {
		return nil, err
	}
	paths := make(map[string]bool)
	for _, s := range listening {
		if s.Path != "" {
			paths[s.Path] = true
		}
	}
	return paths, nil
}

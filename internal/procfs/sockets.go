// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds on what is read of descriptors and sockets: a process may have a million.
const (
	MaxFDs      = 4096    // of which descriptors are told
	maxNetTable = 4 << 20 // bytes of one of the network namespace's tables
)

// FD returns what a descriptor is open on, as the kernel names it: a path, "pipe:[123]",
// "socket:[123]". It is empty where the descriptor is closed, and never waits for a file
// server.
func (p *Process) FD(fd int) (string, error) { return p.link("fd/" + strconv.Itoa(fd)) }

// FDs returns the open descriptors, 4,096 at most.
func (p *Process) FDs() ([]int, error) {
	dir, err := openat(p.dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, p.fail("fd", err)
	}
	defer unix.Close(dir)
	var fds []int
	buf := make([]byte, 8<<10)
	for len(fds) < MaxFDs {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil {
			return nil, p.fail("fd", err)
		}
		if n == 0 {
			break
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if fd, err := strconv.Atoi(name); err == nil {
				fds = append(fds, fd)
			}
		}
	}
	return fds[:min(len(fds), MaxFDs)], nil
}

// A Listener is a socket that a process listens on.
type Listener struct {
	Inode uint64
	// Path is the name of a Unix socket, with an @ in front where it is abstract; empty of
	// the others.
	Path string
}

// Listening returns the sockets that the process listens on.
func (p *Process) Listening() ([]Listener, error) {
	inodes, err := p.socketInodes()
	if err != nil || len(inodes) == 0 {
		return nil, err
	}
	own := make(map[uint64]bool, len(inodes))
	for _, inode := range inodes {
		own[inode] = true
	}
	var all []Listener
	for _, table := range []struct {
		name  string
		parse func([]byte) (Listener, bool)
	}{{"net/unix", parseUnixSocket}, {"net/tcp", parseTCPSocket}, {"net/tcp6", parseTCPSocket}} {
		b, err := p.readAll(table.name, 16<<10, maxNetTable)
		if errors.Is(err, ErrGone) && p.exists() {
			continue // a kernel without that family
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(b) {
			if l, ok := table.parse(line); ok && own[l.Inode] {
				all = append(all, l)
			}
		}
	}
	return all, nil
}

// socketInodes returns the sockets among the descriptors, in their order.
func (p *Process) socketInodes() (inodes []uint64, err error) {
	fds, err := p.FDs()
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		name, err := p.FD(fd)
		if err != nil {
			return nil, err
		}
		number, ok := strings.CutPrefix(name, "socket:[")
		if !ok {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); err == nil {
			inodes = append(inodes, inode)
		}
	}
	return inodes, nil
}

// acceptCon is the flag of a Unix socket that listens (__SO_ACCEPTCON).
const acceptCon = 1 << 16

// parseUnixSocket reads a line of /proc/net/unix, of one that listens.
func parseUnixSocket(line []byte) (l Listener, ok bool) {
	// Num RefCount Protocol Flags Type St Inode Path
	f := strings.SplitN(strings.TrimRight(string(line), "\n"), " ", 2)
	if len(f) < 2 {
		return l, false
	}
	words := strings.Fields(f[1])
	if len(words) < 6 {
		return l, false
	}
	flags, err := strconv.ParseUint(words[2], 16, 32)
	if err != nil || flags&acceptCon == 0 {
		return l, false
	}
	if l.Inode, err = strconv.ParseUint(words[5], 10, 64); err != nil {
		return l, false
	}
	// A path may hold blanks: it is all that follows the inode.
	if _, path, found := strings.Cut(f[1], " "+words[5]+" "); found {
		l.Path = path
	}
	return l, true
}

// listenState is TCP_LISTEN in the tables.
const listenState = "0A"

// parseTCPSocket reads a line of /proc/net/tcp or tcp6, of one that listens.
func parseTCPSocket(line []byte) (l Listener, ok bool) {
	words := bytes.Fields(line)
	if len(words) < 10 || string(words[3]) != listenState {
		return l, false
	}
	inode, err := strconv.ParseUint(string(words[9]), 10, 64)
	return Listener{Inode: inode}, err == nil
}

// SPDX-License-Identifier: Apache-2.0

// Package descend finds the living descendants of a process through procfs and
// signals them by pidfd, so that a reused pid is never hit. It depends on the
// standard library and x/sys alone.
package descend

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process ended, or that its pid now names another one.
var ErrGone = errors.New("process is gone")

// Proc is what /proc/PID/stat says of one process.
type Proc struct {
	PID, PPID int
	// PGID and SID are its process group and session.
	PGID, SID int
	// Start is its start since boot in clock ticks (10 ms): with PID its identity
	// in procfs.
	Start uint64
	// State is the state letter of the thread group's leader.
	State byte
	// Threads counts living threads. A leader may be a zombie while they live.
	Threads int
	// Comm is hostile input: any 15 bytes.
	Comm string
}

// Alive reports whether any thread of p lives: a zombie leader with other
// threads is a living process.
func (p Proc) Alive() bool {
	return p.State != 'Z' && p.State != 'X' || p.Threads > 1
}

// Stopped reports whether p is stopped by a job control signal.
func (p Proc) Stopped() bool { return p.State == 'T' }

// Read reads the process that pid names now. The error is ErrGone when there is none.
func Read(pid int) (Proc, error) {
	b, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Proc{}, goneOr(err)
	}
	p, err := parseStat(b)
	if err != nil {
		return Proc{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return p, nil
}

// readFile is os.ReadFile without the runtime's poller, which procfs has no use
// for: half the system calls.
func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 1024)
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		default:
			b = b[:len(b)+n]
		}
	}
}

// goneOr maps the errors of a vanished process to ErrGone.
func goneOr(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

var errStat = errors.New("malformed stat")

// parseStat parses the content of a stat file. The name is delimited by the
// first opening and the last closing parenthesis, for it may hold any byte.
func parseStat(b []byte) (Proc, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 2 || end < open {
		return Proc{}, errStat
	}
	pid, err := strconv.Atoi(string(b[:open-1]))
	if err != nil || pid <= 0 {
		return Proc{}, errStat
	}
	f := bytes.Fields(b[end+1:])
	// proc(5) counts from one with pid and comm first: f[0] is field 3.
	if len(f) < 20 || len(f[0]) != 1 {
		return Proc{}, errStat
	}
	p := Proc{PID: pid, State: f[0][0], Comm: string(b[open+1 : end])}
	for _, n := range []struct {
		field int
		to    *int
	}{{4, &p.PPID}, {5, &p.PGID}, {6, &p.SID}, {20, &p.Threads}} {
		if *n.to, err = strconv.Atoi(string(f[n.field-3])); err != nil {
			return Proc{}, errStat
		}
	}
	if p.Start, err = strconv.ParseUint(string(f[22-3]), 10, 64); err != nil {
		return Proc{}, errStat
	}
	return p, nil
}

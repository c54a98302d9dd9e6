// SPDX-License-Identifier: Apache-2.0

// Package procfs reads facts about one live process from /proc. Everything there
// is hostile or fleeting: names hold parentheses and newlines, processes vanish
// between two reads, pids are reused. So all facts of a process are read through
// one handle on its directory, which the kernel binds to that process and never
// to a later owner of its pid, and "it is gone", "you may not look" and "it makes
// no sense" are three different errors.
package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/rawsys"
)

// ErrGone says that the process has ended. It is an answer, not a failure.
var ErrGone = errors.New("process is gone")

// ErrHidden says that the process lives but /proc does not show it (hidepid).
// It is an fs.ErrPermission, as is every refusal of the kernel.
var ErrHidden = fmt.Errorf("process is hidden: %w", fs.ErrPermission)

// FS is a procfs. The zero value is /proc. It is safe for concurrent use.
type FS struct {
	// Root is where procfs is mounted; empty means /proc.
	Root string
}

// Process is a handle on one process. It stays with that process: when it ends,
// every read fails with ErrGone, whoever gets its pid. It is not safe for
// concurrent use, and must be closed.
type Process struct {
	pid int32
	dir int // descriptor of /proc/PID
	// real says that pid can be asked about outside of this procfs too.
	real bool
}

const defaultRoot = "/proc"

func (f FS) root() string {
	if f.Root == "" {
		return defaultRoot
	}
	return f.Root
}

// Open returns a handle on the process that has pid now. The error is ErrGone
// where there is none, ErrHidden where it lives but may not be seen.
func (f FS) Open(pid int32) (*Process, error) {
	p, err := f.open(pid)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

func (f FS) open(pid int32) (Process, error) {
	root := f.root()
	p := Process{pid: pid, real: filepath.Clean(root) == defaultRoot}
	path := make([]byte, 0, 64)
	path = append(path, root...)
	path = append(path, '/')
	path = strconv.AppendInt(path, int64(pid), 10)
	// Not O_PATH, which hidepid does not look at: what it conceals would be found,
	// and then seem to be gone.
	dir, err := rawsys.Open(unix.AT_FDCWD, string(path), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return Process{}, p.fail("open", p.unhide(err))
	}
	p.dir = dir
	return p, nil
}

// OpenID is Open for an identity: ErrGone where the pid has another owner by now,
// as far as procfs can tell (it shows starts in ticks of 10 ms). A zero id.Start
// is not compared.
func (f FS) OpenID(id event.ID) (*Process, error) {
	p, err := f.open(id.PID)
	if err != nil {
		return nil, err
	}
	st, err := p.Stat()
	if err == nil && !st.Is(id) {
		err = p.fail("open", ErrGone)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return &p, nil
}

// Close releases the handle.
func (p *Process) Close() error { return rawsys.Close(p.dir) }

// PID is the pid that the handle was opened by.
func (p *Process) PID() int32 { return p.pid }

// unhide tells a dead process from one that hidepid conceals: both are ENOENT, and
// to take the second for the first would be to take a refusal for a death.
func (p *Process) unhide(err error) error {
	if !errors.Is(err, unix.ENOENT) || !p.real {
		return err
	}
	if kill := unix.Kill(int(p.pid), 0); kill == nil || kill == unix.EPERM {
		return ErrHidden
	}
	return err
}

// fail names the culprit, and turns the ways the kernel says "no such process"
// into ErrGone.
func (p *Process) fail(what string, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		err = ErrGone
	}
	return fmt.Errorf("pid %d: %s: %w", p.pid, what, err)
}

// read fills buf from the start of the named file, and returns how much there was.
// A full buf may mean that there is more.
func (p *Process) read(name string, buf []byte) (int, error) {
	open, read, shut := openat, read, unix.Close
	if name == "stat" || name == "cgroup" {
		open, read, shut = rawOpenat, rawsys.Read, rawsys.Close
	}
	fd, err := open(p.dir, name, unix.O_RDONLY)
	if err != nil {
		return 0, p.fail(name, err)
	}
	defer shut(fd)
	n := 0
	for n < len(buf) {
		m, err := read(fd, buf[n:])
		if err != nil {
			return 0, p.fail(name, err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// readAll is read for a file that is nearly always shorter than small bytes and
// never meant to be longer than most, of which it returns the first part.
func (p *Process) readAll(name string, small, most int) ([]byte, error) {
	buf := make([]byte, small)
	n, err := p.read(name, buf)
	if err == nil && n == len(buf) {
		buf = make([]byte, most)
		n, err = p.read(name, buf)
	}
	return buf[:n], err
}

// exists reports whether the process of the handle has not been reaped.
func (p *Process) exists() bool {
	return unix.Faccessat(p.dir, "stat", unix.F_OK, 0) != unix.ENOENT
}

func rawOpenat(dir int, path string, flags int) (int, error) { return rawsys.Open(dir, path, flags, 0) }

func openat(dir int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func read(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

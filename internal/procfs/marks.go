// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// Marks are the two words that a process's owner can put into its environment.
type Marks struct {
	Keep  bool // ABOT_TRACE_KEEP=1
	Leash bool // ABOT_TRACE_LEASH=1
}

var (
	errEnvLong  = errors.New("longer than the kernel allows")
	errEnvUnset = errors.New("not set up")
	errEnvTorn  = errors.New("overwritten by the process")
)

// maxEnviron is above what execve accepts for arguments and environment together:
// three quarters of the 8 MiB stack limit (bprm_stack_limits in fs/exec.c).
const maxEnviron = 8 << 20

// Marks looks for the marks in the environment that the process's program was
// started with. Nothing else of the environment is kept. A process between two
// programs (in execve) shows no environment, which is an error and not an answer; so is an
// environment that the process has written its title over (setproctitle), unless a mark to
// keep it is left.
//
// It waits for the process's memory map lock: not for an event loop.
func (p *Process) Marks() (Marks, error) {
	fd, err := openat(p.dir, "environ", unix.O_RDONLY)
	if err != nil {
		return Marks{}, p.fail("environ", err)
	}
	defer unix.Close(fd)
	var scan markScanner
	buf := make([]byte, 16<<10)
	defer clear(buf)
	total := 0
	for {
		n, err := read(fd, buf)
		if err != nil {
			return Marks{}, p.fail("environ", err)
		}
		if n == 0 {
			break
		}
		scan.write(buf[:n])
		if total += n; total > maxEnviron {
			return Marks{}, p.fail("environ", errEnvLong)
		}
	}
	if total == 0 {
		return Marks{}, p.emptyEnviron()
	}
	marks := scan.end()
	if scan.torn && !marks.Keep {
		return Marks{}, p.fail("environ", errEnvTorn)
	}
	return marks, nil
}

// emptyEnviron tells an environment that is empty from one that is not there.
func (p *Process) emptyEnviron() error {
	st, err := p.Stat()
	if err != nil {
		return err
	}
	if st.envEnd == 0 || st.envStart != st.envEnd {
		return p.fail("environ", errEnvUnset)
	}
	return nil
}

// A markScanner looks for the marks in NUL-terminated entries that come in pieces
// of any size. It holds a position, and none of the bytes.
type markScanner struct {
	pos         int
	keep, leash bool // the entry agrees with the mark so far
	mid         bool // inside an entry
	equals      bool // it has an equals sign
	torn        bool // there was an entry without one: what execve was given has none such
	found       Marks
}

const (
	keepMark  = "ABOT_TRACE_KEEP=1"
	leashMark = "ABOT_TRACE_LEASH=1"
)

func (s *markScanner) write(b []byte) {
	for len(b) > 0 {
		if !s.mid {
			s.mid, s.pos, s.keep, s.leash, s.equals = true, 0, true, true, false
		}
		entry, _, _ := bytes.Cut(b, []byte{0})
		s.equals = s.equals || bytes.IndexByte(entry, '=') >= 0
		for len(b) > 0 && b[0] != 0 && (s.keep || s.leash) {
			s.keep = s.keep && s.pos < len(keepMark) && keepMark[s.pos] == b[0]
			s.leash = s.leash && s.pos < len(leashMark) && leashMark[s.pos] == b[0]
			s.pos++
			b = b[1:]
		}
		end := bytes.IndexByte(b, 0)
		if end < 0 {
			return
		}
		s.entry()
		b = b[end+1:]
	}
}

// entry ends an entry.
func (s *markScanner) entry() {
	s.found.Keep = s.found.Keep || s.keep && s.pos == len(keepMark)
	s.found.Leash = s.found.Leash || s.leash && s.pos == len(leashMark)
	s.torn = s.torn || !s.equals
	s.mid = false
}

// end returns what was found. An entry without its NUL counts: the process may
// have written over the end.
func (s *markScanner) end() Marks {
	if s.mid {
		s.entry()
	}
	return s.found
}

// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
)

var errSyntax = errors.New("not in the kernel's format")

// forkNoExec is the kernel's PF_FORKNOEXEC, from include/linux/sched.h.
const forkNoExec = 0x40

// Stat is what /proc/PID/stat tells. It never blocks on the process.
type Stat struct {
	PID     int32
	Comm    event.Comm // hostile
	State   byte       // R S D T t Z X I, as in proc(5)
	PPID    int32      // the kernel parent now
	PGrp    int32
	Session int32 // 0 where its leader is outside of this pid namespace
	// TTY is the controlling terminal's device number, 0 without one.
	TTY     int32
	Threads int32
	// NeverExeced says that it runs the code that it was forked with (PF_FORKNOEXEC).
	NeverExeced bool
	// StartTicks is the leader's start_boottime in ticks of 10 ms, as our time namespace has
	// it.
	StartTicks uint64
	// SigIgn and SigCgt are the masks of ignored and of caught signals, of the
	// first 31 signals only; bit 0 is SIGHUP.
	SigIgn, SigCgt uint64
	Kthread        bool
	CPU            uint64 // ns in user and kernel mode, all threads; a multiple of 10 ms
	RSS            uint64 // bytes; approximate, as the kernel batches its counters

	envStart, envEnd uint64 // 0 where not permitted
}

// StartNS is the start in ns of CLOCK_BOOTTIME, to the tick.
func (s *Stat) StartNS() uint64 { return boottime.FromTicks(s.StartTicks) }

// nsPerTick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every
// architecture that Go runs Linux on.
const nsPerTick = 10_000_000

const flagKthread = 0x00200000 // PF_KTHREAD, include/linux/sched.h

// Ignores reports whether sig, one of the first 31, is ignored.
func (s *Stat) Ignores(sig unix.Signal) bool { return s.SigIgn&(1<<(sig-1)) != 0 }

// Is reports whether the start agrees with id's to the tick. A zero id.Start
// agrees with every start.
func (s *Stat) Is(id event.ID) bool {
	return s.PID == id.PID && (id.Start == 0 || s.StartTicks == boottime.Ticks(id.Start))
}

// Dead reports whether nothing of the process runs: a zombie with no thread left.
// A leader that has ended before its other threads is a zombie too, but not dead.
func (s *Stat) Dead() bool {
	return s.State == 'X' || s.State == 'x' || s.State == 'Z' && s.Threads <= 1
}

// Stat reads the process's stat.
func (p *Process) Stat() (Stat, error) {
	// 52 numbers of at most 20 digits, and a name.
	var buf [1280]byte
	n, err := p.read("stat", buf[:])
	if err != nil {
		return Stat{}, err
	}
	st, err := parseStat(buf[:n])
	if err != nil {
		return Stat{}, p.fail("stat", err)
	}
	return st, nil
}

// Stat reads the stat of the process that has pid now.
func (f FS) Stat(pid int32) (Stat, error) {
	p, err := f.open(pid)
	if err != nil {
		return Stat{}, err
	}
	defer p.Close()
	return p.Stat()
}

// parseStat relies on the name being the only field with parentheses: it ends at
// the last one, whatever it contains.
func parseStat(b []byte) (Stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 2 || end < open || b[open-1] != ' ' {
		return Stat{}, errSyntax
	}
	var st Stat
	pid, err := parseInt(b[:open-1], 32)
	if err != nil {
		return Stat{}, err
	}
	st.PID = int32(pid)
	copy(st.Comm[:15], b[open+1:end])
	rest := b[end+1:]
	field := 3 // numbered as in proc(5)
	for ; len(rest) > 0; field++ {
		var word []byte
		if rest[0] != ' ' {
			return Stat{}, errSyntax
		}
		word, rest = cutWord(rest[1:])
		if err := st.set(field, word); err != nil {
			return Stat{}, err
		}
	}
	if field <= 34 {
		return Stat{}, errSyntax // cut short
	}
	return st, nil
}

// cutWord splits b before its first blank; a final newline is not part of a word.
func cutWord(b []byte) (word, rest []byte) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i:]
	}
	return bytes.TrimSuffix(b, []byte{'\n'}), nil
}

func (s *Stat) set(field int, word []byte) (err error) {
	switch field {
	case 3:
		if len(word) != 1 {
			return errSyntax
		}
		s.State = word[0]
	case 4:
		err = setInt(&s.PPID, word)
	case 5:
		err = setInt(&s.PGrp, word)
	case 6:
		err = setInt(&s.Session, word)
	case 7:
		err = setInt(&s.TTY, word)
	case 9:
		var flags uint64
		flags, err = parseUint(word)
		s.Kthread = flags&flagKthread != 0
		s.NeverExeced = flags&forkNoExec != 0
	case 14, 15:
		var ticks uint64
		ticks, err = parseUint(word)
		s.CPU += ticks * nsPerTick
	case 20:
		err = setInt(&s.Threads, word)
	case 22:
		s.StartTicks, err = parseUint(word)
	case 24:
		var pages uint64
		pages, err = parseUint(word)
		s.RSS = pages * uint64(os.Getpagesize())
	case 33:
		s.SigIgn, err = parseUint(word)
	case 34:
		s.SigCgt, err = parseUint(word)
	case 50:
		s.envStart, err = parseUint(word)
	case 51:
		s.envEnd, err = parseUint(word)
	}
	return err
}

func setInt(to *int32, word []byte) error {
	n, err := parseInt(word, 32)
	*to = int32(n)
	return err
}

func parseInt(b []byte, bits int) (int64, error) {
	n, err := strconv.ParseInt(string(b), 10, bits)
	if err != nil {
		return 0, errSyntax
	}
	return n, nil
}

func parseUint(b []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0, errSyntax
	}
	return n, nil
}

// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
)

// Procfs lists processes by reading /proc, for where the task iterator is refused.
// It reads stat and status itself: a library that tells the start as a time of day
// gives another one when the clock steps, and a start is half of an identity.
// Its starts have the precision of a clock tick (10 ms).
type Procfs struct {
	// Root is where procfs is mounted; empty is /proc.
	Root string
	// NoSwap leaves Swap and UID out and so halves the cost.
	NoSwap bool
}

// tick is one unit of the times in stat: USER_HZ is 100 on every architecture that
// Go runs on.
const tick = 1e7 // ns

// Tasks implements [TaskSource]. A process that ends while it is read is left out.
func (p Procfs) Tasks(yield func(event.Task)) error {
	root := p.root()
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	tasks := make([]event.Task, 0, len(names))
	starts := make(map[int32]uint64, len(names))
	r := reader{page: uint64(os.Getpagesize())}
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		task, err := r.task(filepath.Join(root, name), !p.NoSwap)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		starts[task.ID.PID] = task.ID.Start
		tasks = append(tasks, task)
	}
	for i := range tasks {
		tasks[i].Parent.Start = starts[tasks[i].Parent.PID]
		yield(tasks[i])
	}
	return nil
}

func (p Procfs) root() string {
	if p.Root == "" {
		return "/proc"
	}
	return p.Root
}

// gone reports whether err says that the process has ended.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// reader reads small files into one buffer.
type reader struct {
	buf  [4096]byte
	page uint64
}

func (r *reader) file(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, r.buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		return r.buf[:n], nil
	}
}

// task reads one process.
func (r *reader) task(dir string, status bool) (event.Task, error) {
	text, err := r.file(dir + "/stat")
	if err != nil {
		return event.Task{}, err
	}
	task, err := parseStat(text, r.page)
	if err != nil || !status {
		return task, err
	}
	if text, err = r.file(dir + "/status"); err != nil {
		return task, err
	}
	parseStatus(text, &task)
	return task, nil
}

// Fields of stat(5) after the name, which may itself hold blanks and parentheses.
const (
	statState   = 0
	statPPID    = 1
	statTTY     = 4
	statFlags   = 6
	statUtime   = 11
	statStime   = 12
	statThreads = 17
	statStart   = 19
	statRSS     = 21
	statFields  = 22

	pfKthread = 0x00200000 // PF_KTHREAD, include/linux/sched.h
)

// parseStat decodes /proc/PID/stat.
func parseStat(text []byte, page uint64) (task event.Task, err error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return task, fmt.Errorf("stat: no name in %q", text)
	}
	pid, err := strconv.ParseInt(string(bytes.TrimSpace(text[:open])), 10, 32)
	if err != nil {
		return task, fmt.Errorf("stat: pid: %w", err)
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < statFields {
		return task, fmt.Errorf("stat of %d: %d fields, want at least %d", pid, len(fields), statFields)
	}
	var num [statFields]uint64
	for _, i := range []int{statPPID, statFlags, statUtime, statStime, statThreads, statStart, statRSS} {
		if num[i], err = strconv.ParseUint(string(fields[i]), 10, 64); err != nil {
			return task, fmt.Errorf("stat of %d: field %d: %w", pid, i+3, err)
		}
	}
	task.ID = event.ID{PID: int32(pid), Start: boottime.FromTicks(num[statStart])}
	task.Parent.PID = int32(num[statPPID])
	task.Comm = event.MakeComm(string(text[open+1 : end]))
	task.State = fields[statState][0]
	// In stat a dead leader looks like a zombie while its threads live on.
	task.Dead = task.State == 'Z' && num[statThreads] <= 1 || task.State == 'X'
	task.Kthread = num[statFlags]&pfKthread != 0
	task.Origin.Tty = string(fields[statTTY]) != "0"
	task.Threads = int(num[statThreads])
	task.RSS = num[statRSS] * page
	task.CPU = (num[statUtime] + num[statStime]) * tick
	return task, nil
}

// parseStatus takes from /proc/PID/status what stat does not have, and the memory
// that stat has only roughly. Lines that are missing change nothing.
func parseStatus(text []byte, task *event.Task) {
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch string(name) {
		case "Uid":
			if fields := bytes.Fields(value); len(fields) > 0 {
				uid, _ := strconv.ParseUint(string(fields[0]), 10, 32)
				task.UID = uint32(uid)
			}
		case "VmRSS":
			if n, ok := kibibytes(value); ok {
				task.RSS = n
			}
		case "VmSwap":
			task.Swap, _ = kibibytes(value)
		}
	}
}

// kibibytes decodes "  123 kB" to bytes.
func kibibytes(value []byte) (uint64, bool) {
	digits, found := bytes.CutSuffix(bytes.TrimSpace(value), []byte(" kB"))
	n, err := strconv.ParseUint(string(digits), 10, 54)
	return n * 1024, found && err == nil
}

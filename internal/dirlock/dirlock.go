// SPDX-License-Identifier: Apache-2.0

// Package dirlock lets one process at a time use a directory. The lock is on the
// directory itself, so there is no file to leave behind, it also works where files
// cannot be made (bpffs), and it ends with its holder however that dies.
package dirlock

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A BusyError says that another process holds the lock.
type BusyError struct {
	Dir string
	PID int // 0 where it cannot be told: the holder is in another pid namespace
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s: in use by another process", e.Dir)
	}
	return fmt.Sprintf("%s: in use by another process (pid %d)", e.Dir, e.PID)
}

// A Lock is held until Release, or until the process ends.
type Lock struct{ dir *os.File }

// patience is how long Acquire waits for a holder to go: one that was just killed may
// still be dying, and a child that it was making inherits the lock up to its exec.
const (
	patience = 2 * time.Second
	pause    = 10 * time.Millisecond
)

// Acquire locks an existing directory. Where another process keeps it for longer than
// dying takes, the error is a [BusyError].
func Acquire(path string) (*Lock, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && current(dir, path) {
			return &Lock{dir}, nil
		}
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = dir.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if time.Now().After(deadline) {
			busy := &BusyError{Dir: path, PID: holder(dir)}
			_ = dir.Close()
			return nil, busy
		}
		_ = dir.Close()
	}
}

// current reports whether the path still leads to the directory: its last holder may
// have removed it meanwhile.
func current(dir *os.File, path string) bool {
	was, err := dir.Stat()
	if err != nil {
		return false
	}
	is, err := os.Lstat(path)
	return err == nil && os.SameFile(was, is)
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.dir.Close() }

// holder returns the pid that /proc/locks names for the directory, or 0.
func holder(dir *os.File) int {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return 0
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer locks.Close()
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for s := bufio.NewScanner(locks); s.Scan(); {
		if pid, ok := parseLock(s.Text(), file); ok {
			return pid
		}
	}
	return 0
}

// parseLock returns the holder that a line of /proc/locks names, where it is a lock
// held by flock(2) on the file "major:minor:inode".
func parseLock(line, file string) (int, bool) {
	f := strings.Fields(line) // 1: FLOCK ADVISORY WRITE 4711 00:1a:42 0 EOF
	if len(f) < 6 || f[1] != "FLOCK" || f[5] != file {
		return 0, false
	}
	pid, err := strconv.Atoi(f[4])
	return max(pid, 0), err == nil
}

// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rawsys"
)

// What these read is asked of every process of a tree right before it is ended, and
// names only a pid: whoever asks holds the process by other means.

// OOMScoreAdj is how the OOM killer treats the process that has pid now: -1000 exempts it.
func (f FS) OOMScoreAdj(pid int32) (int, error) {
	var buf [32]byte
	b, err := f.small(pid, "oom_score_adj", buf[:])
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return 0, &os.PathError{Op: "parse", Path: f.path(pid, "oom_score_adj"), Err: errSyntax}
	}
	return n, nil
}

// Condition is the state of the process that has pid now, a letter of proc(5), and how
// much of its memory is resident, in bytes.
func (f FS) Condition(pid int32) (state byte, resident uint64, err error) {
	var buf [1280]byte
	b, err := f.small(pid, "stat", buf[:])
	if err != nil {
		return 0, 0, err
	}
	rest := b[bytes.LastIndexByte(b, ')')+1:]
	for field := 3; len(rest) > 0 && rest[0] == ' '; field++ { // numbered as in proc(5)
		var word []byte
		word, rest = cutWord(rest[1:])
		switch {
		case field == 3 && len(word) == 1:
			state = word[0]
		case field == 24 && state != 0:
			pages, err := parseUint(word)
			if err == nil {
				return state, pages * uint64(os.Getpagesize()), nil
			}
		}
	}
	return 0, 0, &os.PathError{Op: "parse", Path: f.path(pid, "stat"), Err: errSyntax}
}

// Exe is the program that the process that has pid now executes, also where its file is
// gone by now.
func (f FS) Exe(pid int32) (string, error) {
	var buf [unix.PathMax]byte
	path := f.path(pid, "exe")
	n, err := rawsys.Readlink(path, buf[:])
	if err != nil {
		return "", smallError(path, err)
	}
	return strings.TrimSuffix(string(buf[:n]), " (deleted)"), nil
}

func (f FS) path(pid int32, name string) string {
	return f.root() + "/" + strconv.Itoa(int(pid)) + "/" + name
}

// small reads a file of one line, without its end.
func (f FS) small(pid int32, name string, buf []byte) ([]byte, error) {
	path := f.path(pid, name)
	fd, err := rawsys.Open(unix.AT_FDCWD, path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, smallError(path, err)
	}
	defer rawsys.Close(fd)
	n, err := rawsys.Read(fd, buf)
	if err != nil {
		return nil, smallError(path, err)
	}
	return bytes.TrimSuffix(buf[:n], []byte{'\n'}), nil
}

func smallError(path string, err error) error {
	if err == unix.ENOENT || err == unix.ESRCH {
		return ErrGone
	}
	return &os.PathError{Op: "read", Path: path, Err: err}
}

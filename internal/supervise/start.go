// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// errSetup marks what went wrong before CMD's own file was to blame.
var errSetup = errors.New("setup")

// start forks CMD into a process group of its own, as a shell would, so that a
// signal from the terminal reaches it exactly once.
//
// Where something must be done in the child itself (limits, taking the terminal,
// naming it in LISTEN_PID) the child first runs this program again: ExecStage.
// Go cannot run code between fork and exec.
func (s *supervisor) start(path string) error {
	argv, env := s.Argv, commandEnv(os.Environ())
	terminal, listen := s.tty.interactive(), os.Getenv("LISTEN_PID") == strconv.Itoa(s.self)
	if len(s.Limits) > 0 || terminal || listen {
		order := stageOrder{terminal: terminal, listen: listen, limits: s.Limits}
		argv = append(append(slices.Clone(s.Stage), order.String(), path), s.Argv...)
		path = "/proc/self/exe"
		s.tty.noteGiven(terminal)
	}
	attr := &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	if s.cgroup != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, s.cgroup.fd()
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if errors.Is(err, unix.ENOEXEC) {
		// A script without an interpreter line, as execvp(3) has it.
		pid, err = syscall.ForkExec("/bin/sh", append([]string{"sh", path}, argv[1:]...), attr)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Argv[0], err)
	}
	s.main.pid, s.childless = pid, false
	return nil
}

// commandEnv is what CMD inherits. A keep mark on the supervisor speaks of the
// supervisor: handed down, it would spare the whole tree.
func commandEnv(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "ABOT_TRACE_KEEP=") })
}

// lookPath finds the file to execute: name itself if it has a slash, otherwise
// the first executable of that name in the directories of path. A file that is
// there but cannot be executed is told apart from none.
func lookPath(name, path string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("%q: %w", name, unix.ENOENT)
	}
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return name, nil
	}
	var found error = unix.ENOENT
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		err := executable(file)
		if err == nil {
			return file, nil
		}
		// A directory that we may not search says nothing about the file.
		if errors.Is(err, unix.EACCES) && unix.Access(file, unix.F_OK) == nil {
			found = err
		}
	}
	return "", fmt.Errorf("%s: not found in PATH: %w", name, found)
}

func executable(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EACCES
	}
	return unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS)
}

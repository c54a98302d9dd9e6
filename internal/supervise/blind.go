// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
)

// A supervisor is blind where procfs is not mounted, or is that of another pid namespace,
// whose numbers name other processes here. What it may signal then it knows without: as
// pid 1 everything, for nothing else is in its namespace; otherwise the children that it
// forked itself and has not reaped. It cannot know what to spare.

// look finds out whether the supervisor is blind, and refuses what it then cannot do.
func (s *supervisor) look() error {
	err := descend.Check()
	if err == nil {
		return nil
	}
	s.blind = true
	for flag, set := range map[string]bool{
		"--keep": len(s.Keep) > 0, "--cgroup": s.Config.Cgroup, "--report-only": s.ReportOnly, "--summary": s.Summary != nil,
		"--verbose": s.Verbose, "--fail-on-leak": s.FailOnLeak,
	} {
		if set {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	if s.self == 1 {
		s.Report("%v: as pid 1 everything in this namespace will be ended, ABOT_TRACE_KEEP=1 or not", err)
	} else {
		s.Report("%v: only CMD itself will be ended", err)
	}
	return nil
}

// endBlind is end where procfs does not tell who is there.
func (s *supervisor) endBlind(grace time.Duration) {
	if s.reap(); s.childless && s.self != 1 {
		return
	}
	s.signalBlind(unix.SIGTERM)
	s.wait(time.Now().Add(grace), func() bool { return s.hurry > 0 || s.nothingBlind() })
	for until := time.Now().Add(s.killPatience); !s.nothingBlind() && time.Now().Before(until); {
		s.signalBlind(unix.SIGKILL)
		s.wait(time.Now().Add(lookAgain), s.nothingBlind)
	}
	switch {
	case s.self == 1 && !s.nothingBlind():
		s.Report("processes could not be ended")
	case s.self != 1 && !s.childless:
		s.Report("descendants of CMD are left: without procfs their pids cannot be known")
	}
}

// nothingBlind reports whether all are gone whom a signal reaches.
func (s *supervisor) nothingBlind() bool {
	if s.self == 1 {
		// Who entered from outside is nobody's child here, and counts.
		return s.childless && unix.Kill(-1, 0) == unix.ESRCH
	}
	return s.main.done
}

// signalBlind signals all in our own pid namespace, or CMD alone.
func (s *supervisor) signalBlind(sig unix.Signal) {
	if s.self != 1 {
		if sig == unix.SIGTERM && s.stop != 0 {
			sig = s.stop
		}
		s.signalForked(&s.main, sig)
		return
	}
	_ = unix.Kill(-1, sig) // ESRCH: all are gone
	if sig != unix.SIGKILL {
		_ = unix.Kill(-1, unix.SIGCONT)
	}
}

// signalForked signals a process that we forked, by pidfd. Until it is reaped, which
// happens here and nowhere else, its pid names no other one.
func (s *supervisor) signalForked(c *child, sig unix.Signal) {
	if c.done || c.pid == 0 {
		return
	}
	fd, err := unix.PidfdOpen(c.pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = descend.SignalFD(fd, sig)
	_ = descend.SignalFD(fd, unix.SIGCONT)
}

// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/descend"
)

// Exit codes that flags ask for: a leak in the words of --fail-on-leak, and a time-out as
// timeout(1) has it.
const (
	ExitLeak    = 123
	ExitTimeout = 124
)

const (
	// settleTime is how long a process may take to notice CMD's end by itself, as the
	// other end of a pipe does, until it is called left behind.
	settleTime = 200 * time.Millisecond
	// firstLook, doubled up to lastLook, is how often the running tree is looked at, to
	// know later who started whom: the kernel forgets it when the starter dies.
	firstLook = 5 * time.Millisecond
	lastLook  = 200 * time.Millisecond
)

// A Spawner is the process that started another one.
type Spawner struct {
	PID     int      `json:"pid"`
	Comm    string   `json:"comm"`
	Cmdline []string `json:"cmdline"`
	// Inferred says that the starter was gone before anybody looked: it is CMD, or was
	// started below it.
	Inferred bool `json:"inferred,omitempty"`
}

// A Leftover is a process that lived on after CMD had ended by itself.
type Leftover struct {
	PID        int      `json:"pid"`
	Comm       string   `json:"comm"`
	Cmdline    []string `json:"cmdline"` // empty where it cannot be read
	AgeSeconds float64  `json:"age_seconds"`
	RSSBytes   uint64   `json:"rss_bytes"`
	SpawnedBy  *Spawner `json:"spawned_by"`
	// Ended is how it ended: "exit" by itself, "SIGTERM", "SIGKILL"; "would_end" under
	// --report-only, "left" where it could not be ended, "kept" where it was spared.
	Ended string `json:"ended"`

	id identity
}

// A Summary is what --summary writes.
type Summary struct {
	Schema      int      `json:"schema"`
	Command     []string `json:"command"`
	ExitCode    int      `json:"exit_code"`         // of supervise
	CommandCode *int     `json:"command_exit_code"` // of CMD, 128 + the signal that ended it; null where it lives
	Signal      string   `json:"signal,omitempty"`  // that asked for the end
	TimedOut    bool     `json:"timed_out"`
	// Seconds is how long CMD ran.
	Seconds float64 `json:"seconds"`
	// Left is what was left behind. It is empty where CMD was asked to end: what it was
	// told to leave it has not leaked.
	Left []*Leftover `json:"left_behind"`
	Kept []*Leftover `json:"kept"`
}

// accounts reports whether anybody wants to know what was left behind.
func (s *supervisor) accounts() bool { return s.Summary != nil || s.Verbose || s.FailOnLeak }

// waitForEnd waits until CMD ends, somebody asks for the end, or the time is over.
func (s *supervisor) waitForEnd() {
	began, pause := time.Now(), firstLook
	for !s.main.done && s.stop == 0 {
		var until time.Time
		if s.Timeout > 0 {
			until = began.Add(s.Timeout)
			if !time.Now().Before(until) {
				s.Report("CMD did not end within %v", s.Timeout)
				s.timedOut, s.stop = true, unix.SIGTERM
				break
			}
		}
		if s.accounts() {
			s.noteSpawners()
			if look := time.Now().Add(pause); until.IsZero() || look.Before(until) {
				until = look
			}
			pause = min(2*pause, lastLook)
		}
		s.wait(until, func() bool { return s.main.done || s.stop != 0 })
	}
	s.ran = time.Since(began)
	if s.accounts() && s.main.done && s.stop == 0 {
		s.noteLeftovers()
	}
}

// noteSpawners remembers the parent of each process that has one of its own.
func (s *supervisor) noteSpawners() {
	known := map[int]*Spawner{}
	_ = descend.Walk(s.self, func(p descend.Proc) bool {
		id := identity{p.PID, p.Start}
		if parent := known[p.PPID]; parent != nil && s.spawners[id] == nil {
			s.spawners[id] = parent
		}
		known[p.PID] = &Spawner{PID: p.PID, Comm: p.Comm, Cmdline: s.arguments(p)}
		return true
	})
}

// noteLeftovers takes down what lives on after CMD, once it has had time to notice.
func (s *supervisor) noteLeftovers() {
	s.noteSpawners()
	settled := time.Now().Add(settleTime)
	for !s.cleared() && s.stop == 0 && time.Now().Before(settled) {
		s.wait(earlier(settled, time.Now().Add(lookAgain)), func() bool { return s.childless || s.stop != 0 })
	}
	for _, p := range s.targets() {
		s.left = append(s.left, s.leftover(p))
	}
}

func (s *supervisor) leftover(p descend.Proc) *Leftover {
	id := identity{p.PID, p.Start}
	l := &Leftover{PID: p.PID, Comm: p.Comm, Cmdline: s.arguments(p), SpawnedBy: s.spawners[id], id: id}
	if now, start := boottime.Now(), boottime.FromTicks(p.Start); now > start {
		l.AgeSeconds = time.Duration(now - start).Seconds()
	}
	if l.SpawnedBy == nil {
		l.SpawnedBy = &Spawner{PID: s.main.pid, Comm: filepath.Base(s.Argv[0]), Cmdline: s.Argv, Inferred: true}
	}
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/statm"); err == nil {
		if fields := strings.Fields(string(b)); len(fields) > 1 {
			pages, _ := strconv.ParseUint(fields[1], 10, 64)
			l.RSSBytes = pages * uint64(os.Getpagesize())
		}
	}
	return l
}

// howEnded says how a process that was left behind ended.
func (s *supervisor) howEnded(id identity) string {
	p, err := descend.Read(id.pid)
	lives := err == nil && p.Start == id.start && p.Alive()
	switch {
	case lives && s.ReportOnly:
		return "would_end"
	case lives:
		return "left"
	case s.killed[id]:
		return "SIGKILL"
	case s.termed[id]:
		return "SIGTERM"
	default:
		return "exit"
	}
}

// account settles the exit code, and tells what was left behind to whom asked.
func (s *supervisor) account(code int) int {
	if !s.accounts() && !s.timedOut {
		return code
	}
	for _, l := range s.left {
		l.Ended = s.howEnded(l.id)
	}
	cmd := code
	switch {
	case s.timedOut:
		code = ExitTimeout
	case s.FailOnLeak && code == 0 && len(s.left) > 0:
		code = ExitLeak
	}
	if s.Verbose {
		s.tellLeftovers()
	}
	if s.Summary == nil {
		return code
	}
	sum := Summary{Schema: 1, Command: s.Argv, ExitCode: code, TimedOut: s.timedOut, Seconds: s.ran.Seconds(),
		Left: append([]*Leftover{}, s.left...), Kept: s.keptLeftovers()}
	if s.main.done {
		sum.CommandCode = &cmd
	}
	if s.stop != 0 {
		sum.Signal = unix.SignalName(s.stop)
	}
	if err := json.NewEncoder(s.Summary).Encode(sum); err != nil {
		s.Report("summary: %v", err)
	}
	return code
}

func (s *supervisor) keptLeftovers() []*Leftover {
	kept := []*Leftover{}
	for id := range s.kept {
		if p, err := descend.Read(id.pid); err == nil && p.Start == id.start && p.Alive() {
			l := s.leftover(p)
			l.Ended = "kept"
			kept = append(kept, l)
		}
	}
	return kept
}

// tellLeftovers says the same to people, a line for each.
func (s *supervisor) tellLeftovers() {
	if len(s.left) == 0 {
		s.Report("nothing was left behind")
		return
	}
	for _, l := range s.left {
		by := fmt.Sprintf("process %d (%q)", l.SpawnedBy.PID, strings.Join(l.SpawnedBy.Cmdline, " "))
		if l.SpawnedBy.Inferred {
			by += " or below it"
		}
		ended := map[string]string{"would_end": "would be ended", "left": "could not be ended", "exit": "ended by itself"}[l.Ended]
		if ended == "" {
			ended = "ended by " + l.Ended
		}
		s.Report("left behind: process %d (%q), %.1f s old, %.1f MiB, started by %s: %s",
			l.PID, strings.Join(l.Cmdline, " "), l.AgeSeconds, float64(l.RSSBytes)/(1<<20), by, ended)
	}
}

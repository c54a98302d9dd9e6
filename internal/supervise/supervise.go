// SPDX-License-Identifier: Apache-2.0

// Package supervise runs a command so that no descendant of it is left behind.
//
// One goroutine does everything, in the order of the phases in run; wait is the
// only place where it blocks, and there it handles signals and reaps:
//
//	start -> CMD ends or a signal comes -> before-term hooks -> TERM, grace,
//	KILL until empty -> on-exit hooks -> exit code
//
// The supervisor is a child subreaper: whatever its descendants do, short of
// asking another manager to start a process for them, they stay its descendants,
// and wait4 failing with ECHILD proves that none is left.
package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/slowread"
)

// The exit codes that are the supervisor's own, as env(1) and timeout(1) have them.
const (
	ExitFailed        = 125 // the supervisor itself failed
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// First says who gets the ending signal first.
type First string

// FirstAll signals the whole tree at once. FirstMain signals CMD alone, and the
// rest when CMD has ended or half of the grace is over.
const (
	FirstAll  First = "all"
	FirstMain First = "main"
)

// Config says what to run and how to end it.
type Config struct {
	Argv []string // CMD and its arguments; at least one
	// Grace is the time between TERM and KILL. It ends early when the tree is
	// empty; 0 kills at once after TERM.
	Grace time.Duration
	First First
	// BeforeTerm runs before the tree is signalled, OnExit when it is empty: each
	// an argv, run one after the other, each within HookTimeout.
	BeforeTerm, OnExit [][]string
	HookTimeout        time.Duration
	// Keep spares processes whose command line (arguments joined by blanks) it
	// matches, with their descendants. CMD itself is never spared.
	Keep []*regexp.Regexp
	// Cgroup holds the tree in a cgroup v2 of its own below the current one.
	Cgroup bool
	Limits []Limit
	// Timeout is how long CMD may run before it is asked to end, as by TERM; 0 is for ever.
	Timeout time.Duration
	// FailOnLeak makes the exit code ExitLeak where CMD left with 0 and something behind.
	FailOnLeak bool
	// Summary is where a [Summary] is written to in the end; nil for none. Verbose tells
	// people the same by Report.
	Summary io.Writer
	Verbose bool
	// ReportOnly passes signals to CMD alone and ends nothing after it.
	ReportOnly bool
	// Leaser registers the tree with a daemon; nil for none. Without LeaseRequired
	// a daemon that fails is reported, and CMD starts all the same.
	Leaser        Leaser
	LeaseRequired bool
	// Stage is the argv prefix that leads back into ExecStage, run as
	// /proc/self/exe.
	Stage []string
	// Report tells people one line; it must not be nil.
	Report func(format string, args ...any)

	// killPatience is how long nothing may change, after KILL, until what is left
	// is reported and left. 0 means defaultKillPatience; tests cannot wait that long.
	killPatience time.Duration
}

// A child is a process that the supervisor forked itself.
type child struct {
	pid    int
	done   bool
	status unix.WaitStatus
}

// is reports whether p is the child. Once reaped, its pid may name another.
func (c *child) is(p descend.Proc) bool { return !c.done && c.pid == p.PID }

func (c *child) code() int {
	if c.status.Signaled() {
		return 128 + int(c.status.Signal())
	}
	return c.status.ExitStatus()
}

type supervisor struct {
	Config
	reads   slowread.Reads       // one of each process at a time
	asked   map[identity]*answer // environments, in the look at the tree that is going on
	self    int
	signals *signals
	tty     *terminal // nil without a controlling terminal
	cgroup  *cgroup   // nil without one of our own
	main    child
	hook    *child // the hook that runs now

	stop  unix.Signal // the first ending signal; 0 while there is none
	since time.Time   // when it came
	hurry int         // how many TERM and INT came after it

	doubled  bool // the signal came twice at once, see doubleTime
	blind    bool // procfs is not ours: see look
	timedOut bool
	ran      time.Duration // CMD's run, up to its end or the wish for it
	spawners map[identity]*Spawner
	left     []*Leftover

	stopAsked bool // a TSTP came and was passed on

	reaped    int  // how many children were reaped
	childless bool // wait4 said ECHILD and nothing was forked since

	termed, killed map[identity]bool
	kept           map[identity]bool
	unread         map[identity]bool // said of, that their environment could not be read
	refused        map[identity]bool
	trackersUntil  time.Time
}

// identity is a process in procfs: pid and start tick.
type identity struct {
	pid   int
	start uint64
}

// Run runs cfg.Argv and returns the exit code: CMD's own, or 128 + the signal
// that ended it. Where CMD was never started the code is 125, 126 or 127 and
// err says why.
//
// Run takes over the process: it reaps every child, becomes a child subreaper
// and handles signals. Call it once, from a process with nothing else to do.
func Run(cfg Config) (code int, err error) {
	s := &supervisor{
		Config: cfg, self: os.Getpid(), reads: slowread.Reads{Each: 1}, asked: map[identity]*answer{},
		unread: map[identity]bool{}, termed: map[identity]bool{}, killed: map[identity]bool{},
		kept: map[identity]bool{}, refused: map[identity]bool{}, spawners: map[identity]*Spawner{},
	}
	if s.killPatience == 0 {
		s.killPatience = defaultKillPatience
	}
	if err := s.look(); err != nil {
		return ExitFailed, err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return ExitFailed, fmt.Errorf("child subreaper: %w", err)
	}
	path, err := lookPath(cfg.Argv[0], os.Getenv("PATH"))
	if err != nil {
		return startCode(err), err
	}
	s.signals = notify()
	defer s.signals.close()
	if cfg.Cgroup {
		if s.cgroup, err = newCgroup(s.self); err != nil {
			return ExitFailed, err
		}
		defer s.cgroup.remove(cfg.Report)
	}
	if err := s.lease(); err != nil {
		return ExitFailed, err
	}
	s.tty = openTerminal()
	defer s.tty.close()
	if err := s.start(path); err != nil {
		return startCode(err), err
	}
	code = s.run()
	s.giveBack()
	return code, nil
}

// run goes through the phases after the start and returns the exit code.
func (s *supervisor) run() int {
	s.waitForEnd()
	s.tty.takeBack(s.main.done)
	s.runHooks("before-term", s.BeforeTerm)
	if s.ReportOnly {
		s.reportOnly()
	} else {
		s.end(s.Grace)
	}
	s.tty.takeBack(s.main.done)
	s.runHooks("on-exit", s.OnExit)
	if !s.main.done { // it could not be killed: end reported it
		return s.account(128 + int(unix.SIGKILL))
	}
	return s.account(s.main.code())
}

// end leaves nothing behind: TERM, the grace, KILL until the tree is empty.
func (s *supervisor) end(grace time.Duration) {
	if s.blind {
		s.endBlind(grace)
		return
	}
	s.reap()
	if s.cleared() {
		return
	}
	deadline := time.Now().Add(grace)
	s.term(grace)
	if s.waitCleared(deadline) {
		return
	}
	for _, p := range s.kill() {
		s.Report("%s could not be ended: %s", describe(p), s.whyLeft(p))
	}
}

// reportOnly passes the signal on to CMD, waits for its end and says what would
// have been ended.
func (s *supervisor) reportOnly() {
	if !s.main.done {
		s.signalMain(s.stop)
		for !s.main.done {
			hurry := s.hurry
			s.wait(time.Time{}, func() bool { return s.main.done || s.hurry > hurry })
			if !s.main.done {
				s.signalMain(s.stop)
			}
		}
	}
	for _, p := range s.targets() {
		s.Report("would end %s", describe(p))
	}
}

// startCode maps the failure to start CMD to an exit code.
func startCode(err error) int {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return ExitNotFound
	case errors.Is(err, errSetup):
		return ExitFailed
	default:
		return ExitNotExecutable
	}
}

// describe names a process in a message; its name is hostile input.
func describe(p descend.Proc) string { return fmt.Sprintf("process %d (%q)", p.PID, p.Comm) }

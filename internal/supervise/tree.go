// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
)

// keepMark in the environment of a process declares it deliberate.
const keepMark = "ABOT_TRACE_KEEP=1"

const (
	// termRounds bounds how often the tree is walked for processes forked while
	// TERM went round. What is born later may be somebody's orderly clean-up.
	termRounds = 5
	// defaultKillPatience is for processes that sleep uninterruptibly or belong to
	// someone else.
	defaultKillPatience = 10 * time.Second
	// trackerPatience is how long Python's resource tracker may take to clean up
	// after the others are gone. Killed before, it leaks shared memory.
	trackerPatience = time.Second
	// lookAgain is how often the tree is looked at where deaths do not all
	// announce themselves by SIGCHLD.
	lookAgain = 50 * time.Millisecond
)

// targets returns the living processes to end: the descendants, and what the
// cgroup and the daemon know beyond them; kept processes are left out with their
// descendants.
func (s *supervisor) targets() []descend.Proc {
	if s.blind {
		return nil
	}
	var procs []descend.Proc
	clear(s.asked)
	seen := map[int]bool{}
	err := descend.Walk(s.self, func(p descend.Proc) bool {
		seen[p.PID] = true
		if s.keep(p) {
			return false
		}
		procs = append(procs, p)
		return true
	})
	if err != nil {
		s.Report("walk of the tree: %v", err)
	}
	for _, p := range s.elsewhere() {
		if !seen[p.PID] && !s.belowKept(p) && !s.keep(p) {
			seen[p.PID] = true
			procs = append(procs, p)
		}
	}
	return procs
}

// elsewhere returns living processes of the tree that are known by other means
// than being descendants.
func (s *supervisor) elsewhere() []descend.Proc {
	if s.blind {
		return nil
	}
	procs := append(s.cgroup.procs(), s.lineage()...)
	return slices.DeleteFunc(procs, func(p descend.Proc) bool {
		return p.PID == s.self || p.PID == 1 || !p.Alive()
	})
}

// keep reports whether p is spared, and says so once.
func (s *supervisor) keep(p descend.Proc) bool {
	id := identity{p.PID, p.Start}
	if s.kept[id] {
		return true
	}
	if s.main.is(p) || s.hook != nil && s.hook.is(p) {
		return false
	}
	why := s.whyKeep(p)
	if why == "" {
		return false
	}
	s.kept[id] = true
	s.Report("kept %s: %s", describe(p), why)
	return true
}

func (s *supervisor) whyKeep(p descend.Proc) string {
	env, err := s.environ(p)
	if err == nil && slices.Contains(env, keepMark) {
		return keepMark
	}
	if id := (identity{p.PID, p.Start}); err != nil && !errors.Is(err, descend.ErrGone) && !s.unread[id] {
		s.unread[id] = true
		s.Report("not known whether %s is to be kept, so it is not: its environment %s", describe(p), whyUnread(err))
	}
	if len(s.Keep) == 0 {
		return ""
	}
	cmdline := s.commandLine(p)
	for _, re := range s.Keep {
		if re.MatchString(cmdline) {
			return "--keep " + re.String()
		}
	}
	return ""
}

func (s *supervisor) commandLine(p descend.Proc) string {
	if args := s.arguments(p); len(args) > 0 {
		return strings.Join(args, " ")
	}
	return p.Comm
}

// belowKept reports whether a kept process is among p's ancestors.
func (s *supervisor) belowKept(p descend.Proc) bool {
	if len(s.kept) == 0 {
		return false
	}
	for _, pid := range descend.Ancestors(p.PID) {
		if a, err := descend.Read(pid); err == nil && s.kept[identity{a.PID, a.Start}] {
			return true
		}
	}
	return false
}

// deliver sends sig to p. A child that we have not reaped, and nobody else can,
// keeps its pid; everything else goes through a verified pidfd.
func (s *supervisor) deliver(p descend.Proc, sig unix.Signal) {
	var err error
	if p.PPID == s.self {
		err = unix.Kill(p.PID, sig)
	} else {
		err = descend.Signal(p, sig)
	}
	if errors.Is(err, unix.EPERM) {
		s.refused[identity{p.PID, p.Start}] = true
	}
}

// cleared reports whether nothing is left but what is kept. Without kept
// processes ECHILD is the proof; with them two walks in a row must find nothing.
func (s *supervisor) cleared() bool {
	if s.childless {
		return len(s.elsewhere()) == 0 || len(s.targets()) == 0
	}
	if len(s.kept) == 0 {
		return false
	}
	if len(s.targets()) > 0 {
		return false
	}
	// Once more: who forks and exits fast enough is missed by one pass.
	return len(s.targets()) == 0
}

// waitCleared waits until the tree is empty, the deadline passes or a further
// signal asks to hurry, and reports whether it is empty.
func (s *supervisor) waitCleared(deadline time.Time) bool {
	for {
		s.reap()
		if s.cleared() {
			return true
		}
		if s.hurry > 0 || !time.Now().Before(deadline) {
			return false
		}
		until := deadline
		if len(s.kept) > 0 || s.childless {
			until = earlier(deadline, time.Now().Add(lookAgain))
		}
		reaped, childless := s.reaped, s.childless
		s.wait(until, func() bool {
			return s.reaped != reaped || s.childless != childless || s.hurry > 0
		})
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// term tells the tree to end: CMD by the signal that came, the rest by TERM.
func (s *supervisor) term(grace time.Duration) {
	if s.First == FirstMain && !s.main.done {
		s.signalMain(s.stop)
		s.wait(time.Now().Add(grace/2), func() bool { return s.main.done || s.hurry > 0 })
	}
	for range termRounds {
		fresh := 0
		for _, p := range s.targets() {
			id := identity{p.PID, p.Start}
			if s.termed[id] {
				continue
			}
			s.termed[id] = true
			fresh++
			if s.main.is(p) {
				s.signalMain(s.stop)
				continue
			}
			s.deliver(p, unix.SIGTERM)
			if p.Stopped() {
				s.deliver(p, unix.SIGCONT)
			}
		}
		if fresh == 0 {
			return
		}
	}
}

// signalMain gives CMD the signal that came, or TERM where CMD ignores that one
// (a shell's background job ignores INT), and wakes it if it is stopped.
func (s *supervisor) signalMain(sig unix.Signal) {
	p, err := descend.Read(s.main.pid)
	if err != nil || s.main.done {
		return
	}
	s.termed[identity{p.PID, p.Start}] = true
	if sig == 0 || ignores(p.PID, sig) {
		sig = unix.SIGTERM
	}
	s.deliver(p, sig)
	if p.Stopped() {
		s.deliver(p, unix.SIGCONT)
	}
}

// kill sends KILL until the tree is empty, for trees grow while one kills them,
// and returns what did not go.
func (s *supervisor) kill() []descend.Proc {
	last := time.Now()
	for round := 0; ; round++ {
		s.reap()
		if s.cleared() {
			return nil
		}
		if round >= 2 {
			// It grows as fast as it is killed: a stopped process does not fork, and
			// unlike a killed one makes no room for others to.
			s.freeze()
		}
		targets := s.targets()
		if s.killOnce(targets) > 0 {
			last = time.Now()
		}
		if round >= 2 {
			s.cgroup.kill(len(s.kept) > 0)
		}
		if time.Since(last) > s.killPatience {
			return targets
		}
		reaped := s.reaped
		pause := min(time.Duration(round+1)*time.Millisecond, lookAgain)
		if s.wait(time.Now().Add(pause), func() bool { return s.reaped != reaped || s.childless }) && s.reaped != reaped {
			last = time.Now()
		}
	}
}

// killOnce sends KILL to the targets and returns how many had not got it before.
// Resource trackers wait until they are alone.
func (s *supervisor) killOnce(targets []descend.Proc) (fresh int) {
	others := slices.DeleteFunc(slices.Clone(targets), s.isResourceTracker)
	if len(others) > 0 {
		s.trackersUntil = time.Now().Add(trackerPatience)
	} else if time.Now().After(s.trackersUntil) {
		others = targets
	}
	for _, p := range others {
		if id := (identity{p.PID, p.Start}); !s.killed[id] {
			s.killed[id] = true
			fresh++
		}
		s.deliver(p, unix.SIGKILL)
	}
	return fresh
}

// isResourceTracker knows the helper of Python's multiprocessing that ignores
// TERM and ends by itself, after cleaning up, when the last of the others has.
func (s *supervisor) isResourceTracker(p descend.Proc) bool {
	return strings.Contains(s.commandLine(p), "from multiprocessing.resource_tracker import main")
}

// freeze stops every target, repeatedly until a walk finds nobody running. What
// it stops is killed next.
func (s *supervisor) freeze() {
	if s.cgroup.freeze() {
		return
	}
	for range 20 {
		running := 0
		for _, p := range s.targets() {
			if !p.Stopped() && p.State != 'D' && !s.isResourceTracker(p) {
				running++
				s.deliver(p, unix.SIGSTOP)
			}
		}
		if running == 0 {
			return
		}
	}
}

// whyLeft says why p survived KILL.
func (s *supervisor) whyLeft(p descend.Proc) string {
	switch {
	case s.refused[identity{p.PID, p.Start}]:
		return "not permitted to signal it"
	case p.State == 'D':
		return "in uninterruptible sleep"
	default:
		return "state " + string(rune(p.State))
	}
}

// SPDX-License-Identifier: Apache-2.0

package shutdown

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
)

const (
	// markName carries a mark in the environment of registered children.
	markName = "ABOT_TRACE_SHUTDOWN"
	// lookAgain is how often the tree is walked while it is killed.
	lookAgain = 20 * time.Millisecond
	// killPatience is how long KILL may take; longer only in uninterruptible sleep.
	killPatience = 10 * time.Second
)

// children are the registered processes and what was found below them.
type children struct {
	mark       string
	registered map[identity]descend.Proc
	looks      int // how often every environment was read; for tests
}

type identity struct {
	pid   int
	start uint64
}

func idOf(p descend.Proc) identity { return identity{p.PID, p.Start} }

// ErrClosed is returned by Start when the Group is closing.
var ErrClosed = errors.New("shutdown: the group is closed")

// Start starts cmd as cmd.Start does and registers it: Close ends it with all its
// descendants. It adds a variable to cmd.Env. The caller Waits for cmd as usual.
// Once the Group is closing it returns ErrClosed.
func (g *Group) Start(cmd *exec.Cmd) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return ErrClosed
	}
	if g.children.mark == "" {
		g.children.mark = markName + "=" + rand.Text()
		g.children.registered = map[identity]descend.Proc{}
	}
	cmd.Env = append(cmd.Environ(), g.children.mark)
	if err := cmd.Start(); err != nil {
		return err
	}
	p, err := descend.Read(cmd.Process.Pid) // not reaped yet, so it is there
	if err != nil {
		_ = cmd.Process.Kill()
		return errors.Join(fmt.Errorf("shutdown: %w", err), cmd.Wait())
	}
	g.forgetDead()
	g.children.registered[idOf(p)] = p
	return nil
}

// forgetDead drops children that were reaped, so that a program which starts many
// does not grow. The caller holds mu.
func (g *Group) forgetDead() {
	for id := range g.children.registered {
		if p, err := descend.Read(id.pid); errors.Is(err, descend.ErrGone) || err == nil && idOf(p) != id {
			delete(g.children.registered, id)
		}
	}
}

// tree remembers, by pidfd, every process found below the registered ones, so
// that one whose parent dies in between is not lost.
type tree map[identity]member

type member struct {
	proc   descend.Proc
	fd     int
	termed bool
}

func (t tree) close() {
	for _, m := range t {
		unix.Close(m.fd)
	}
}

// grow looks for processes that are not in t yet. That takes a look at every
// environment of the machine: it is for the beginning and the end, not for a loop.
func (g *Group) grow(t tree) {
	add := func(p descend.Proc) bool {
		if _, known := t[idOf(p)]; !known {
			if fd, err := descend.Open(p); err == nil {
				t[idOf(p)] = member{proc: p, fd: fd}
			}
		}
		return true
	}
	for _, p := range g.roots() {
		if now, err := descend.Read(p.PID); err == nil && now.Start == p.Start && now.Alive() {
			add(now)
			_ = descend.Walk(p.PID, add)
		}
	}
	for _, m := range t {
		if alive(m.fd) {
			_ = descend.Walk(m.proc.PID, add)
		}
	}
}

// roots are the processes whose descendants are ours: the registered children,
// what carries their mark and, for a subreaper, every child.
func (g *Group) roots() []descend.Proc {
	g.mu.Lock()
	defer g.mu.Unlock()
	var roots []descend.Proc
	for _, p := range g.children.registered {
		roots = append(roots, p)
	}
	if g.opts.Subreaper {
		if procs, err := descend.List(os.Getpid()); err == nil {
			roots = append(roots, procs...)
		}
		return roots
	}
	if len(roots) > 0 || g.children.mark != "" {
		g.children.looks++
		roots = append(roots, marked(g.children.mark)...)
	}
	return roots
}

// marked returns the processes with mark in their environment.
func marked(mark string) (procs []descend.Proc) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := descend.Read(pid)
		if err != nil || !p.Alive() {
			continue
		}
		if env, err := descend.Environ(pid); err == nil && slices.Contains(env, mark) {
			procs = append(procs, p)
		}
	}
	return procs
}

// alive reports whether the process of a pidfd lives: a pidfd becomes readable
// when the last thread has ended.
func alive(fd int) bool { return len(unreadable([]int{fd}, 0)) == 1 }

// unreadable waits until one of the descriptors is readable and returns those that
// are not.
func unreadable(fds []int, timeout time.Duration) (rest []int) {
	polls := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		polls[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	// Rounded up: a wait of no time at all would spin up to the deadline.
	_, _ = unix.Poll(polls, int((timeout+time.Millisecond-1)/time.Millisecond))
	for i, p := range polls {
		if p.Revents == 0 {
			rest = append(rest, fds[i])
		}
	}
	return rest
}

func (t tree) living() []int {
	fds := make([]int, 0, len(t))
	for _, m := range t {
		fds = append(fds, m.fd)
	}
	return unreadable(fds, 0)
}

// endChildren is TERM, the grace, KILL.
func (g *Group) endChildren() error {
	t := tree{}
	defer func() { t.close() }()
	deadline := time.Now().Add(g.opts.Grace)
	forced, closeForced, err := g.forcedFD()
	if err != nil {
		return err
	}
	defer closeForced()
	// What is born during the grace may be somebody's orderly clean-up.
	for range 2 {
		g.grow(t)
		t.term()
	}
	for {
		fds := t.living()
		if len(fds) == 0 {
			known := len(t)
			if g.grow(t); len(t) == known {
				return nil
			}
			continue
		}
		if g.isForced() || !time.Now().Before(deadline) {
			break
		}
		unreadable(append(fds, forced), time.Until(deadline))
	}
	err = g.kill(t)
	if g.isForced() {
		err = errors.Join(ErrForced, err)
	}
	return err
}

// forcedFD returns a descriptor that becomes readable when a second signal comes, and
// what closes it.
func (g *Group) forcedFD() (fd int, closeFD func(), err error) {
	fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return -1, nil, fmt.Errorf("shutdown: eventfd: %w", err)
	}
	over := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		select {
		case <-g.forced:
			_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		case <-over:
		}
	})
	return fd, func() {
		close(over)
		waiter.Wait()
		unix.Close(fd)
	}, nil
}

// term signals every member once, and wakes the stopped ones.
func (t tree) term() {
	for id, m := range t {
		if m.termed {
			continue
		}
		m.termed = true
		t[id] = m
		_ = descend.SignalFD(m.fd, unix.SIGTERM)
		if m.proc.Stopped() {
			_ = descend.SignalFD(m.fd, unix.SIGCONT)
		}
	}
}

func (g *Group) killChildren() error {
	t := tree{}
	defer t.close()
	g.grow(t)
	return g.kill(t)
}

// kill sends KILL until nothing is left, for trees grow while one kills them.
func (g *Group) kill(t tree) error {
	deadline := time.Now().Add(killPatience)
	for {
		for _, m := range t {
			_ = descend.SignalFD(m.fd, unix.SIGKILL)
		}
		g.grow(t)
		fds := t.living()
		if len(fds) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return t.leftError()
		}
		unreadable(fds, lookAgain)
	}
}

func (t tree) leftError() error {
	var errs []error
	for _, m := range t {
		if alive(m.fd) {
			errs = append(errs, fmt.Errorf("process %d (%q) could not be ended", m.proc.PID, m.proc.Comm))
		}
	}
	return errors.Join(errs...)
}

// reapAdopted collects adopted children that ended. Registered ones belong to
// their Wait.
func (g *Group) reapAdopted() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	defer signal.Stop(died)
	for {
		g.reapZombies()
		select {
		case <-died:
		case <-g.done:
			g.reapZombies()
			return
		}
	}
}

func (g *Group) reapZombies() {
	// Start holds mu from the fork until the child is registered.
	g.mu.Lock()
	defer g.mu.Unlock()
	zombies, err := descend.Zombies(os.Getpid())
	if err != nil {
		return
	}
	for _, p := range zombies {
		if _, ours := g.children.registered[idOf(p)]; !ours {
			_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG|unix.WALL, nil)
		}
	}
}

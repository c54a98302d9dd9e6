// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/probe"
)

// What is left behind runs a program of its own, which is the only one that the armed
// rule reaches.
const treeProgram = "tree"

// A kill is one way in which a tree that is left behind is ended.
type kill struct {
	name   string
	leaves int  // children of the one that is left behind
	rules  bool // by a daemon that has the rule
	leased bool // by a daemon, and the parent held a lease
	goal   string
}

var kills = []kill{
	{name: "tree of four, by a rule with full evidence", leaves: 3, rules: true, goal: "500 | 2000 | | |"},
	{name: "tree of four, by a lease (a mark in the environment)", leaves: 3, leased: true},
	{name: "tree of four, floor: a program that waits with every pidfd at hand", leaves: 3},
	{name: "one child, by a lease", leased: true, goal: "80 | 200 | | 400 |"},
	{name: "one child, floor"},
}

// killing measures every way, n trees each without and with a storm beside them.
func (b *bench) killing(n int) ([]delay, error) {
	program, err := os.ReadFile(b.storm)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(b.dir, treeProgram), program, 0o755); err != nil {
		return nil, err
	}
	// The clock is stopped by a probe of the bench's own, for the floor as for the others.
	if b.watch, err = probe.Open(probe.Options{NoArgs: true}); err != nil {
		return nil, err
	}
	defer b.watch.Close()
	all := make([]delay, len(kills))
	for i, k := range kills {
		b.progress("kills", i, len(kills))
		if all[i], err = b.killBy(k, n); err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return all, nil
}

func (b *bench) killBy(k kill, n int) (d delay, err error) {
	if k.rules || k.leased {
		restore, err := b.arm(k.rules)
		if err != nil {
			return d, err
		}
		defer restore()
		cmd, _, err := b.startDaemon()
		if err != nil {
			return d, err
		}
		defer end(cmd)
	}
	for _, busy := range []bool{false, true} {
		var us []float64
		err := b.beside(busy, func() error {
			for range n {
				took, err := b.leave(k)
				if err != nil {
					return err
				}
				us = append(us, float64(took.Nanoseconds())/1e3)
			}
			return nil
		})
		if err != nil {
			return d, err
		}
		if busy {
			d.busy = us
		} else {
			d.idle = us
		}
	}
	return d, nil
}

// arm gives the next daemon a configuration that holds nothing back, with the rule or
// without any.
func (b *bench) arm(rule bool) (restore func(), err error) {
	text := "budget: {warm_up: 0s, pause: 0s, kills_per_minute: 100000, respawn: 0s, stop_file: " + b.dir + "/stop}\n"
	if rule {
		text += "rules:\n  - {name: left-behind, mode: enforce, orphaned_for: 0s, grace: 5s,\n" +
			"     match: {verdict: [leaked], exe: [" + filepath.Join(b.dir, treeProgram) + "]}}\n"
	}
	before := b.config
	b.config = filepath.Join(b.dir, "armed.yaml")
	return func() { b.config = before }, os.WriteFile(b.config, []byte(text), 0o600)
}

// leave kills the parent of a tree, and returns how long after its death, as the kernel
// stamped it, the last of the tree was seen dead.
func (b *bench) leave(k kill) (time.Duration, error) {
	cmd := exec.Command(filepath.Join(b.dir, treeProgram), "tree", strconv.Itoa(k.leaves))
	if k.leased {
		cmd.Env = append(os.Environ(), "ABOT_TRACE_LEASH=1")
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("tree: %w", err)
	}
	var fds []int // the parent's first
	defer func() {
		for _, fd := range fds {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			unix.Close(fd)
		}
	}()
	for _, word := range append([]string{strconv.Itoa(cmd.Process.Pid)}, strings.Fields(line)...) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return 0, err
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return 0, err
		}
		fds = append(fds, fd)
	}
	if err := unix.PidfdSendSignal(fds[0], unix.SIGKILL, nil, 0); err != nil {
		return 0, err
	}
	if !k.rules && !k.leased {
		if err := awaitDeath(fds[0]); err != nil {
			return 0, err
		}
		for _, fd := range fds[1:] {
			_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) // it may have been first to die
		}
	}
	for _, fd := range fds[1:] {
		if err := awaitDeath(fd); err != nil {
			return 0, err
		}
	}
	last := boottime.Now()
	died, err := b.deathOf(int32(cmd.Process.Pid))
	return time.Duration(last - died), err
}

// deathOf is when the process died, which it has: CLOCK_BOOTTIME, ns.
func (b *bench) deathOf(pid int32) (at uint64, err error) {
	err = await(func() bool {
		for b.watch.Read(1024, func(e *event.Event) {
			if e.Kind == event.KindExit && e.Subject.PID == pid {
				at = e.Time
			}
		}) > 0 {
		}
		return at != 0
	})
	return at, err
}

var errLives = errors.New("it lives")

func awaitDeath(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, err := unix.Poll(fds, int(time.Until(deadline)/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return errLives
}

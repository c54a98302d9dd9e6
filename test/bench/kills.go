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
)

// The trees of four that are left behind run a program of their own, which is the only
// one that the armed rule reaches.
const (
	treeProgram = "tree"
	treeLeaves  = 3
)

// A kill is one way in which a tree that is left behind is ended.
type kill struct {
	name   string
	rules  bool // by a daemon that has the rule
	leased bool // by a daemon, and the parent held a lease
	goal   string
}

var kills = []kill{
	{name: "abot-trace, by a rule with full evidence", rules: true, goal: "500 | 2000 | | |"},
	{name: "abot-trace, by a lease (a mark in the environment)", leased: true, goal: "80 | 200 | | 400 |"},
	{name: "floor: a program that waits with every pidfd at hand"},
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
	text := "budget: {warm_up: 0s, pause: 0s, kills_per_minute: 100000, stop_file: " + b.dir + "/stop}\n"
	if rule {
		text += "rules:\n  - {name: left-behind, mode: enforce, orphaned_for: 0s, grace: 5s,\n" +
			"     match: {verdict: [leaked], exe: [" + filepath.Join(b.dir, treeProgram) + "]}}\n"
	}
	before := b.config
	b.config = filepath.Join(b.dir, "armed.yaml")
	b.before = []string{"nice", "-n", "-20"} // as the unit has it
	return func() { b.config, b.before = before, nil }, os.WriteFile(b.config, []byte(text), 0o600)
}

// leave kills the parent of a tree, and returns how long the last of the tree lived on.
func (b *bench) leave(k kill) (time.Duration, error) {
	cmd := exec.Command(filepath.Join(b.dir, treeProgram), "tree", strconv.Itoa(treeLeaves))
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
	began := time.Now()
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
	return time.Since(began), nil
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

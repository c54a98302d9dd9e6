// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// testerLife bounds the life of every tester, whatever goes wrong.
const testerLife = 2 * time.Minute

// testerMain is the program that the tests supervise. Descriptor 3 is the
// lifeline. Its verbs:
//
//	leaf KIND        say KIND and wait
//	deaf KIND        the same, ignoring TERM, INT and HUP
//	via KIND VERB    start VERB KIND and exit: the middle of a double fork
//	above KIND       start a leaf below another living process
//	chain KIND       fork and exit, again and again, ignoring TERM
//	bush KIND        fork children that wait, as fast as it goes, up to a bound
//	moved KIND DIR   leave for the cgroup DIR
//	tree             start one of each kind and wait; end of input: exit 7
//	crowd N          start N leaves and wait
//	caught SIGNAL... say "ready", then each signal that comes; TERM exits 0
func testerMain(args []string) {
	time.AfterFunc(testerLife, func() { os.Exit(99) })
	life := os.NewFile(3, "lifeline")
	switch verb := args[0]; verb {
	case "leaf":
		fmt.Fprintln(life, args[1])
		select {}
	case "deaf":
		signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
		fmt.Fprintln(life, args[1])
		select {}
	case "via":
		spawn(&syscall.SysProcAttr{}, true, args[2], args[1])
	case "above":
		spawn(&syscall.SysProcAttr{}, true, "leaf", args[1])
		select {}
	case "chain":
		signal.Ignore(unix.SIGTERM)
		fmt.Fprintln(life, args[1])
		chain(100_000)
	case "bush":
		signal.Ignore(unix.SIGTERM)
		fmt.Fprintln(life, args[1])
		bush(300)
		select {}
	case "moved":
		if err := os.WriteFile(filepath.Join(args[2], "cgroup.procs"), []byte("0"), 0); err != nil {
			fmt.Fprintln(life, err)
		}
		fmt.Fprintln(life, args[1])
		select {}
	case "tree":
		plantTree(args[1:])
		buf := make([]byte, 1)
		os.Stdin.Read(buf)
		os.Exit(7)
	case "crowd":
		n, _ := strconv.Atoi(args[1])
		for range n {
			spawn(&syscall.SysProcAttr{}, true, "leaf", "leaf")
		}
		select {}
	case "caught":
		caught(life)
	}
}

// kinds are the ways to escape that plantTree tries.
var kinds = []string{"plain", "setsid", "double fork", "setsid + double fork", "emptied environment",
	"TERM ignored", "forking chain", "forking bush", "deep below setsid"}

// plantTree starts one descendant of each kind; with a directory, also one that
// moves into that cgroup.
func plantTree(args []string) {
	plain, setsid := &syscall.SysProcAttr{}, &syscall.SysProcAttr{Setsid: true}
	spawn(plain, true, "leaf", "plain")
	spawn(setsid, true, "leaf", "setsid")
	spawn(plain, true, "via", "double fork", "leaf")
	spawn(setsid, true, "via", "setsid + double fork", "leaf")
	spawn(setsid, false, "via", "emptied environment", "leaf")
	spawn(plain, true, "deaf", "TERM ignored")
	spawn(setsid, true, "chain", "forking chain")
	spawn(setsid, true, "bush", "forking bush")
	spawn(setsid, true, "above", "deep below setsid")
	if len(args) > 0 {
		spawn(setsid, true, "moved", "another cgroup", args[0])
	}
}

// spawn starts a tester that holds the lifeline.
func spawn(attr *syscall.SysProcAttr, env bool, args ...string) {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe, append([]string{"tester"}, args...)...)
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "lifeline")}
	cmd.SysProcAttr = attr
	if !env {
		cmd.Env = []string{}
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

// fork is fork(2) without the runtime: the child may only make raw system calls.
//
//go:norace
//go:nosplit
func fork() uintptr {
	pid, _, _ := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	return pid
}

// chain hands over to a new process n times: whoever looks finds it gone.
//
//go:norace
func chain(n int) {
	for range n {
		if fork() != 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

// bush forks n children, each of which waits for a signal.
//
//go:norace
func bush(n int) {
	for range n {
		if fork() == 0 {
			for {
				unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
	}
}

// caught says which signals come.
func caught(life *os.File) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT)
	fmt.Fprintln(life, "ready")
	for sig := range c {
		fmt.Fprintln(life, unix.SignalName(sig.(unix.Signal)))
		switch sig {
		case unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT:
			os.Exit(0)
		}
	}
}

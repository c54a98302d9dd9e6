// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// confinedMark tells the second start from the first, so that a confinement that
// does not take cannot run in circles. It grants nothing: the state of the threads
// is what counts.
const confinedMark = "ABOT_TRACE_HELPER_CONFINED=1"

// Confine makes sure that no thread of this process has a capability or can gain
// one, nor the daemon's priority, that it adopts what its hooks leave behind, and that it goes on delivering
// when the daemon is gone and nobody reads its reports. A thread can only give up
// its own, and Go has made several by now, so that it gives up those of one and
// starts the program again from there: where it was needed, Confine does not return
// but the program begins anew, with the same arguments.
func Confine() error {
	problem, err := unconfined()
	if err != nil {
		return err
	}
	if problem != "" {
		if os.Getenv("ABOT_TRACE_HELPER_CONFINED") != "" {
			return fmt.Errorf("confine: %s", problem)
		}
		return restartConfined()
	}
	if err := os.Unsetenv("ABOT_TRACE_HELPER_CONFINED"); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	// A write to a closed standard output would end the program. Caught and not
	// ignored: what is ignored, hooks inherit.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	return nil
}

// unconfined returns what some thread still has, or the empty string.
func unconfined() (string, error) {
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err == nil && niceOf(nice) < 0 {
		return "the priority is raised", nil
	}
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) == 0 {
		return "", errors.New("confine: no threads in /proc/self/task")
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("confine: %w", err)
		}
		if problem := statusProblem(string(text)); problem != "" {
			return problem, nil
		}
	}
	return "", nil
}

// niceOf turns what the system call returns, which is never negative, into a nice value
// (getpriority(2)).
func niceOf(priority int) int { return 20 - priority }

// statusProblem looks at one thread's status for capabilities that it has or that
// an exec could give it.
func statusProblem(status string) string {
	found := map[string]string{}
	for line := range strings.Lines(status) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			found[name] = strings.TrimSpace(value)
		}
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if value, ok := found[set]; !ok || strings.Trim(value, "0") != "" {
			return set + " is " + value
		}
	}
	if found["NoNewPrivs"] != "1" {
		return "NoNewPrivs is " + found["NoNewPrivs"]
	}
	return ""
}

// restartConfined gives up everything on one thread and executes the program from
// it. With no_new_privs set not even root's exec gains anything.
func restartConfined() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	// The bounding set as well, where it is allowed: it takes CAP_SETPCAP.
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			break
		}
	}
	// The daemon runs before all else, what is delivered here need not.
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && niceOf(nice) < 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 0); err != nil {
			return fmt.Errorf("lower the priority: %w", err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	err := unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), confinedMark))
	return fmt.Errorf("start again: %w", err)
}

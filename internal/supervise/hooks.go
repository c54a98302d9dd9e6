// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
)

// leftoverGrace is what processes that an on-exit hook leaves behind get.
const leftoverGrace = time.Second

// runHooks runs the hooks of one kind, in order, once. A hook that fails, hangs
// or cannot be started is reported and changes nothing else.
func (s *supervisor) runHooks(kind string, hooks [][]string) {
	for _, argv := range hooks {
		s.runHook(kind, argv)
		if kind == "on-exit" && !s.ReportOnly {
			s.hurry = 0
			s.end(leftoverGrace)
		}
	}
}

// runHook runs one hook without a shell. Signals that come meanwhile shorten the
// grace, not the hook, which has its own time-out.
func (s *supervisor) runHook(kind string, argv []string) {
	name := kind + " hook " + strconv.Quote(strings.Join(argv, " "))
	pid, err := s.startHook(kind, argv)
	if err != nil {
		s.Report("%s: %v", name, err)
		return
	}
	hook := &child{pid: pid}
	s.hook, s.childless = hook, false
	defer func() { s.hook = nil }()
	s.wait(time.Now().Add(s.HookTimeout), func() bool { return hook.done })
	switch {
	case !hook.done:
		s.Report("%s: did not end within %v", name, s.HookTimeout)
		s.killHook(hook)
	case hook.status.Signaled():
		s.Report("%s: ended by signal %d (%v)", name, hook.status.Signal(), hook.status.Signal())
	case hook.status.ExitStatus() != 0:
		s.Report("%s: exit %d", name, hook.status.ExitStatus())
	}
}

// startHook forks the hook, which reads nothing and finds in its environment
// what happened.
func (s *supervisor) startHook(kind string, argv []string) (int, error) {
	path, err := lookPath(argv[0], os.Getenv("PATH"))
	if err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   append(commandEnv(os.Environ()), s.hookEnv(kind)...),
		Files: []uintptr{null.Fd(), 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
}

// hookEnv tells a hook the CMD's pid, the signal that asked for the end if one
// did, and CMD's exit code once there is one.
func (s *supervisor) hookEnv(kind string) []string {
	env := []string{"ABOT_TRACE_HOOK=" + kind, "ABOT_TRACE_PID=" + strconv.Itoa(s.main.pid)}
	if s.stop != 0 {
		env = append(env, "ABOT_TRACE_SIGNAL="+unix.SignalName(s.stop))
	}
	if s.main.done {
		env = append(env, "ABOT_TRACE_EXIT_CODE="+strconv.Itoa(s.main.code()))
	}
	return env
}

// killHook kills a hook with its descendants. What left the hook's side ends with
// the tree, or after an on-exit hook as its leftovers.
func (s *supervisor) killHook(hook *child) {
	until := time.Now().Add(s.killPatience)
	for !hook.done && time.Now().Before(until) {
		if procs, err := descend.List(hook.pid); err == nil && !s.blind {
			for _, p := range procs {
				s.deliver(p, unix.SIGKILL)
			}
		}
		_ = unix.Kill(hook.pid, unix.SIGKILL) // ours and not reaped
		s.wait(time.Now().Add(lookAgain), func() bool { return hook.done })
	}
}

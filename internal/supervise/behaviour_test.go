// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// never is a grace that no test can sit out.
const never = time.Hour

func TestGraceEndsEarly(t *testing.T) {
	s := start(t, options{Argv: tester(t, "leaf", "up"), Grace: never})
	s.life.expect(t, "up")
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 128+15)
}

func TestSecondSignalShortensGrace(t *testing.T) {
	for _, second := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		t.Run(second.String(), func(t *testing.T) {
			s := start(t, options{Argv: tester(t, "deaf", "up"), Grace: never})
			s.life.expect(t, "up")
			s.signal(t, unix.SIGHUP)
			proctest.Eventually(t, "the first signal is taken", func() bool { return !pending(t, s.Process.Pid) })
			s.signal(t, second)
			s.wantEnd(t, 128+9)
		})
	}
}

// pending reports whether an ending signal for the process still waits in the kernel.
func pending(t *testing.T, pid int) bool {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	const ending = 1<<(unix.SIGHUP-1) | 1<<(unix.SIGINT-1) | 1<<(unix.SIGTERM-1)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil &&
			(name == "ShdPnd" || name == "SigPnd") && mask&ending != 0 {
			return true
		}
	}
	return false
}

func TestStoppedCommandEnds(t *testing.T) {
	s := start(t, options{Argv: tester(t, "leaf", "up"), Grace: never})
	s.life.expect(t, "up")
	child := onlyChild(t, s.Process.Pid)
	if err := descend.Signal(child, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "CMD is stopped", func() bool {
		p, err := descend.Read(child.PID)
		return err == nil && p.Stopped()
	})
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 128+15)
}

// onlyChild returns the one child of pid.
func onlyChild(t *testing.T, pid int) descend.Proc {
	t.Helper()
	procs, err := descend.List(pid)
	if err != nil || len(procs) == 0 {
		t.Fatalf("children of %d: %v, %v", pid, procs, err)
	}
	return procs[0]
}

func TestForwardsSignals(t *testing.T) {
	s := start(t, options{Argv: tester(t, "caught"), Grace: never})
	s.life.expect(t, "ready")
	for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT} {
		s.signal(t, sig)
		s.life.expect(t, unix.SignalName(sig))
	}
	s.signal(t, unix.SIGTSTP)
	child := onlyChild(t, s.Process.Pid)
	proctest.Eventually(t, "TSTP stops CMD", func() bool {
		p, err := descend.Read(child.PID)
		return err == nil && p.Stopped()
	})
	s.signal(t, unix.SIGCONT)
	s.life.expect(t, "SIGCONT")
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 0)
}

// CMD gets the signal that came, not always TERM.
func TestCommandGetsTheSignalThatCame(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		s := start(t, options{Argv: tester(t, "caught"), Grace: never})
		s.life.expect(t, "ready")
		s.signal(t, sig)
		s.life.expect(t, unix.SignalName(sig))
		s.wantEnd(t, 0)
	}
}

func TestIgnoredSignalBecomesTERM(t *testing.T) {
	s := start(t, options{Argv: []string{"sh", "-c", "trap '' INT; echo up >&3; sleep 100"}, Grace: never})
	s.life.expect(t, "up")
	s.signal(t, unix.SIGINT)
	s.wantEnd(t, 128+15)
}

// With --first main the rest is told when CMD has ended, and then at once.
func TestFirstMain(t *testing.T) {
	script := `(trap 'echo rest >&3; exit' TERM; echo up >&3; while :; do sleep 0.05; done) &
		trap 'echo main >&3; exit 5' TERM; echo up >&3; while :; do sleep 0.05; done`
	s := start(t, options{Argv: []string{"sh", "-c", script}, Grace: never, First: FirstMain})
	s.life.expect(t, "up", "up")
	s.signal(t, unix.SIGTERM)
	if got := s.code(t); got != 5 {
		t.Errorf("exit code %d, want 5", got)
	}
	if got := strings.Join(s.life.rest(t), " "); got != "main rest" {
		t.Errorf("order %q, want %q", got, "main rest")
	}
}

func TestKeep(t *testing.T) {
	tests := []struct {
		name, script, keep, why string
	}{
		{"mark", `ABOT_TRACE_KEEP=1 setsid sleep 1111 & setsid sleep 1112 &`, "", "ABOT_TRACE_KEEP=1"},
		{"expression", `setsid sleep 1111 & setsid sleep 1112 &`, "^sleep 1111$", "--keep ^sleep 1111$"},
		{"ignoring TERM beside", `ABOT_TRACE_KEEP=1 setsid sleep 1111 & trap '' TERM; setsid sleep 1112 &`, "", "ABOT_TRACE_KEEP=1"},
		{"mark, with its descendants", `ABOT_TRACE_KEEP=1 setsid sh -c 'exec 4>&-; env -i sleep 1113 & exec sleep 1111' & setsid sleep 1112 &`, "", "ABOT_TRACE_KEEP=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			script := tt.script + ` until test "$(cat /proc/$!/comm)" = sleep; do :; done; echo up >&3; read x; exit 4`
			s := start(t, options{Argv: []string{"sh", "-c", script}, Keep: tt.keep, Grace: time.Second})
			s.life.expect(t, "up")
			kept := waitForSleep(t, s.Process.Pid, "1111")
			s.stdin.Close()
			if got := s.code(t); got != 4 {
				t.Errorf("exit code %d, want 4", got)
			}
			if now, err := descend.Read(kept.PID); err != nil || now.Start != kept.Start {
				t.Errorf("the kept process is gone: %v", err)
			}
			for _, p := range proctest.Descendants(t) {
				if lineOf(p) == "sleep 1112" {
					t.Error("the process beside the kept one is left")
				}
			}
			proctest.Eventually(t, "the report", func() bool { return strings.Contains(s.stderr.String(), "kept process "+itoa(kept.PID)) })
			contains(t, "report", s.stderr.String(), `("sleep"): `+tt.why)
		})
	}
}

// waitForSleep waits until "sleep SECONDS" runs below pid.
func waitForSleep(t *testing.T, pid int, seconds string) (found descend.Proc) {
	t.Helper()
	proctest.Eventually(t, "sleep "+seconds+" runs", func() bool {
		procs, err := descend.List(pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range procs {
			if lineOf(p) == "sleep "+seconds {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// A keep mark on supervise itself speaks of supervise: its tree still ends.
func TestKeepMarkIsNotInherited(t *testing.T) {
	t.Setenv("ABOT_TRACE_KEEP", "1")
	s := start(t, options{Argv: tester(t, "crowd", "3"), Grace: never})
	s.life.expect(t, "leaf", "leaf", "leaf")
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 128+15)
}

func TestReportOnly(t *testing.T) {
	s := start(t, options{Argv: []string{"sh", "-c", "setsid sleep 1111 & echo up >&3; read x"}, ReportOnly: true})
	s.life.expect(t, "up")
	left := waitForSleep(t, s.Process.Pid, "1111")
	s.signal(t, unix.SIGTERM)
	if got := s.code(t); got != 128+15 {
		t.Errorf("exit code %d, want %d", got, 128+15)
	}
	if now, err := descend.Read(left.PID); err != nil || now.Start != left.Start {
		t.Errorf("report-only ended a process: %v", err)
	}
	proctest.Eventually(t, "the report", func() bool { return strings.Contains(s.stderr.String(), "would end process "+itoa(left.PID)) })
}

func TestLimits(t *testing.T) {
	script := "ulimit -n; ulimit -c; ulimit -Ht; ulimit -v"
	s := start(t, options{Argv: []string{"sh", "-c", script}, Limits: "as=4GiB,nofile=77,core=0,cpu=90s:1h"})
	s.wantEnd(t, 0)
	proctest.Eventually(t, "the output", func() bool { return s.stdout.String() == "77\n0\n3600\n4194304\n" })
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	tests := []struct {
		name string
		argv []string
		code int
	}{
		{"zero", []string{"true"}, 0},
		{"own", []string{"sh", "-c", "exit 42"}, 42},
		{"signal", []string{"sh", "-c", "kill -SEGV $$"}, 128 + 11},
		{"not found in PATH", []string{"abot-trace-no-such-command"}, 127},
		{"no such file", []string{dir + "/none"}, 127},
		{"empty name", []string{""}, 127},
		{"below a file", []string{write("file", "", 0o644) + "/x"}, 127},
		{"not executable", []string{write("plain", "#!/bin/sh\n", 0o644)}, 126},
		{"directory", []string{dir}, 126},
		{"no interpreter", []string{write("bad", "#!/no/such/interpreter\n", 0o755)}, 127},
		{"garbage", []string{write("garbage", "\x7fELF garbage", 0o755)}, 126},
		{"script without a first line", []string{write("script", "exit 6\n", 0o755)}, 6},
	}
	for _, limits := range []string{"", "core=0"} {
		for _, tt := range tests {
			t.Run(strings.TrimSpace(tt.name+" "+limits), func(t *testing.T) {
				s := start(t, options{Argv: tt.argv, Limits: limits})
				if tt.name == "garbage" {
					// execvp's habit: what has no known format goes to the shell.
					if got := s.code(t); got != 126 && got != 127 && got != 2 {
						t.Errorf("exit code %d", got)
					}
					return
				}
				s.wantEnd(t, tt.code)
			})
		}
	}
}

// TestPid1 runs the supervisor as a container's init: in a pid namespace of its
// own it must reap what it adopts and leave nothing.
func TestPid1(t *testing.T) {
	proctest.NeedRoot(t)
	script := `for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.01 & echo up >&3' &) ; done
		until test $(ls -d /proc/[0-9]* | wc -l) -le 4; do :; done
		grep -l '^State:.Z' /proc/[0-9]*/status; echo reaped >&3; read x`
	arg := `{"Argv":["sh","-c",` + quoteJSON(script) + `],"Grace":3600000000000,"First":"all"}`
	s := startCommand(t, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", self(t), "supervise", arg)
	s.life.expect(t, "up", "up", "up", "up", "up", "reaped")
	init := onlyChild(t, s.Process.Pid)
	if err := descend.Signal(init, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.wantEnd(t, 128+15)
}

// A closed standard error must not take the supervisor down and orphan the tree.
func TestClosedStderr(t *testing.T) {
	script := `ABOT_TRACE_KEEP= setsid sleep 1111 & echo up >&3; read x`
	cmd := options{Argv: []string{"sh", "-c", script}, Grace: never, BeforeTerm: [][]string{{"false"}}}
	s := start(t, cmd)
	s.life.expect(t, "up")
	s.stderrRead.Close()
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 128+15)
}

// A process that the supervisor may not signal is reported and left, and does not
// hold it up for ever. Here it is a child of root that the supervisor inherits.
func TestRefusedProcess(t *testing.T) {
	proctest.NeedRoot(t)
	arg := `{"Argv":["true"],"First":"all","Grace":100000000,"KillPatience":300000000}`
	s := startCommand(t, "sh", "-c", `sleep 1111 3>&- & exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" supervise "$1"`,
		readableCopy(t), arg)
	s.wantEnd(t, 0)
	proctest.Eventually(t, "the report", func() bool {
		return strings.Contains(s.stderr.String(), `("sleep") could not be ended: not permitted to signal it`)
	})
}

// readableCopy copies the test binary to where everybody can execute it.
func readableCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "supervise-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "supervise.test")
	if err := os.WriteFile(file, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func lineOf(p descend.Proc) string {
	args, _ := descend.Cmdline(p.PID)
	return strings.Join(args, " ")
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// start runs a shell command that says when it is ready, and is killed with the test. What
// it says afterwards is to be read.
func start(t *testing.T, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	said := bufio.NewReader(stdout)
	if line, err := said.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd, said
}

// TestSignals sends each signal to a process that does with it what the row says. SIGKILL
// follows, so that the records end somewhere.
func TestSignals(t *testing.T) {
	p := open(t, Options{})
	const trapAll = "trap : HUP INT QUIT ABRT TERM USR1; echo ready; while :; do read line; done"
	tests := []struct {
		name   string
		script string
		signal unix.Signal
		kind   event.Kind // of its record, 0 for none
		effect event.Effect
	}{
		{"fatal", "echo ready; read line", unix.SIGTERM, event.KindSignal, event.Fatal},
		{"TERM caught", trapAll, unix.SIGTERM, event.KindCaught, event.Caught},
		{"INT caught", trapAll, unix.SIGINT, event.KindCaught, event.Caught},
		{"HUP caught", trapAll, unix.SIGHUP, event.KindCaught, event.Caught},
		{"QUIT caught", trapAll, unix.SIGQUIT, event.KindCaught, event.Caught},
		{"ABRT caught", trapAll, unix.SIGABRT, event.KindCaught, event.Caught},
		{"USR1 caught", trapAll, unix.SIGUSR1, 0, 0},
		{"TERM ignored", "trap '' TERM; echo ready; read line", unix.SIGTERM, event.KindCaught, event.Ignored},
		{"USR1 ignored", "trap '' USR1; echo ready; read line", unix.SIGUSR1, 0, 0},
		{"TERM blocked by GNU env", "exec env --block-signal=TERM sh -c 'echo ready; read line'", unix.SIGTERM, event.KindCaught, event.Blocked},
		{"USR1 blocked by GNU env", "exec env --block-signal=USR1 sh -c 'echo ready; read line'", unix.SIGUSR1, event.KindCaught, event.Blocked},
		{"CHLD", "echo ready; read line", unix.SIGCHLD, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd, _ := start(t, tt.script)
			pid := int32(cmd.Process.Pid)
			if err := unix.Kill(int(pid), tt.signal); err != nil {
				t.Fatal(err)
			}
			_ = unix.Kill(int(pid), unix.SIGKILL)
			var got []event.Event
			until(t, p, func(e *event.Event) bool {
				if e.Subject.PID == pid && (e.Kind == event.KindSignal || e.Kind == event.KindCaught) && e.Signal.Signal != unix.SIGKILL {
					got = append(got, *e)
				}
				return e.Subject.PID == pid && e.Kind == event.KindExit
			})
			if tt.kind == 0 {
				if len(got) != 0 {
					t.Fatalf("got %+v, want nothing", got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("got %d records, want 1: %+v", len(got), got)
			}
			if e := got[0]; e.Kind != tt.kind || e.Signal.Signal != tt.signal || e.Signal.Effect != tt.effect ||
				e.Signal.Sender.PID != int32(os.Getpid()) || e.Signal.FromKernel {
				t.Errorf("got %s %+v", e.Kind, e.Signal)
			}
		})
	}
}

// TestSignalToItself tells no signal that a process sends to itself and survives.
func TestSignalToItself(t *testing.T) {
	p := open(t, Options{})
	cmd, _ := start(t, "trap : TERM; kill -TERM $$; echo ready; kill -KILL $$")
	pid := int32(cmd.Process.Pid)
	until(t, p, func(e *event.Event) bool {
		if e.Subject.PID == pid && e.Kind == event.KindCaught {
			t.Errorf("got %+v", e.Signal)
		}
		return e.Subject.PID == pid && e.Kind == event.KindExit
	})
}

// TestSignalsAreLimited sends one process more signals than are told of within a second,
// and another one signal: each target has its own limit, and what is left out is counted.
func TestSignalsAreLimited(t *testing.T) {
	p := open(t, Options{})
	const sent = 100
	cmd, said := start(t, `trap 'echo got' TERM; echo ready; while :; do read line; done`)
	other, _ := start(t, `trap : TERM; echo ready; while :; do read line; done`)
	pid := int32(cmd.Process.Pid)
	for range sent {
		_ = unix.Kill(int(pid), unix.SIGTERM)
		// One that waits already when the next is sent makes no record at all.
		if _, err := said.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	before := p.Suppressed()
	_ = unix.Kill(other.Process.Pid, unix.SIGTERM)
	if p.Suppressed() != before {
		t.Error("one signal to another process was not told")
	}
	_ = unix.Kill(int(pid), unix.SIGKILL)
	told, missed := 0, uint64(0)
	until(t, p, func(e *event.Event) bool {
		if e.Subject.PID == pid && e.Kind == event.KindCaught {
			told++
			missed += uint64(e.Signal.Suppressed)
		}
		return e.Subject.PID == pid && e.Kind == event.KindExit
	})
	if told < 16 || uint64(told)+before != sent || missed > before {
		t.Errorf("%d told and %d not, %d of them told of, of %d", told, before, missed, sent)
	}
}

// TestNeverExeced tells a process that runs what it was forked with from one that has
// executed a program, also when the last thread to die is not its leader.
func TestNeverExeced(t *testing.T) {
	p := open(t, Options{})
	cmd, _ := start(t, "(exit 4); /bin/sh -c 'exit 5'; echo ready; exit 6")
	want := map[int]bool{4: true, 5: false, 6: false}
	_ = cmd.Wait()
	family := map[event.ID]bool{}
	until(t, p, func(e *event.Event) bool {
		switch {
		case e.Kind == event.KindFork && (e.Fork.Spawner.PID == int32(cmd.Process.Pid) || e.Subject.PID == int32(cmd.Process.Pid)):
			family[e.Subject] = true
		case e.Kind == event.KindExit && family[e.Subject]:
			code := e.Exit.Status.Code()
			if never, ok := want[code]; !ok || never != e.Exit.NeverExeced {
				t.Errorf("exit %d: never executed %v, want %v", code, e.Exit.NeverExeced, never)
			}
			delete(want, code)
		}
		return e.Kind == event.KindExit && e.Subject.PID == int32(cmd.Process.Pid)
	})
	if len(want) != 0 {
		t.Errorf("not seen: %v", want)
	}
}

// TestNeverExecedThreads runs programs of many threads: all but the leader have the flag
// for ever, and any of them may be the last to die.
func TestNeverExecedThreads(t *testing.T) {
	p := open(t, Options{})
	left := map[int32]bool{}
	for range 20 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		left[int32(cmd.Process.Pid)] = true
	}
	until(t, p, func(e *event.Event) bool {
		if e.Kind == event.KindExit && left[e.Subject.PID] {
			if e.Exit.NeverExeced {
				t.Errorf("%v: it is said that it never executed", e.Subject)
			}
			delete(left, e.Subject.PID)
		}
		return len(left) == 0
	})
}

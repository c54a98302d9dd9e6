// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// needRoot skips a test that needs the kernel, except in CI, where it must run.
func needRoot(t testing.TB) {
	t.Helper()
	proctest.Need(t, checkCapabilities())
}

// open opens a probe for the length of the test.
func open(t testing.TB, opt Options) *Probe {
	t.Helper()
	needRoot(t)
	p, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// until reads the ring until seen returns true.
func until(t testing.TB, p *Probe, seen func(*event.Event) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		done := false
		for p.Read(1, func(e *event.Event) { done = seen(e) }) > 0 {
			if done {
				return
			}
		}
		if err := p.Wait(10 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("not seen within a minute")
}

func TestLiveRecords(t *testing.T) {
	for _, noArgs := range []bool{false, true} {
		name := "both objects"
		if noArgs {
			name = "core object alone"
		}
		t.Run(name, func(t *testing.T) {
			p := open(t, Options{NoArgs: noArgs})
			if (p.ArgsError() != nil) != noArgs {
				t.Fatalf("ArgsError = %v", p.ArgsError())
			}
			checkRecords(t, p, noArgs)
			if n := p.Malformed(); n != 0 {
				t.Errorf("%d malformed records", n)
			}
		})
	}
}

// checkRecords runs one process and follows it from fork to exit.
func checkRecords(t *testing.T, p *Probe, noArgs bool) {
	cmd := exec.Command("/bin/sh", "-c", "exit 3", "a  b\nc")
	cmd.Env = []string{"ABOT_TRACE_KEEP=1"}
	if err := cmd.Run(); err == nil {
		t.Fatal("sh left with 0, want 3")
	}
	pid := int32(cmd.Process.Pid)
	session := sessionOfTest(t)
	var id event.ID
	until(t, p, func(e *event.Event) bool {
		if e.Subject.PID != pid {
			return false
		}
		switch e.Kind {
		case event.KindFork:
			id = e.Subject
			if e.Fork.Spawner.PID != int32(os.Getpid()) || e.Fork.Caller != e.Fork.Spawner {
				t.Errorf("fork: %+v", e.Fork)
			}
			// A descriptor table that has grown cannot be read without probe reads.
			if !e.Fork.Origin.StdioKnown && !noArgs {
				t.Error("fork: stdio not known")
			}
		case event.KindExec:
			if e.Comm.String() != "sh" || e.Subject != id {
				t.Errorf("exec: %s %v, want sh %v", e.Comm, e.Subject, id)
			}
			// As at the fork: without probe reads stdio is known while the table is small.
			if o := e.Exec.Origin; o.SessionOwn || o.Session != session || !o.StdioKnown && !noArgs {
				t.Errorf("origin at the exec: %+v", o)
			}
			want := event.Exec{Origin: e.Exec.Origin, Cgroup: e.Exec.Cgroup, MarksKnown: true, Keep: true, Filename: "/bin/sh",
				Cmdline: "/bin/sh\x00-c\x00exit 3\x00a  b\nc\x00"}
			if noArgs {
				want = event.Exec{Origin: e.Exec.Origin, Cgroup: e.Exec.Cgroup}
			}
			if e.Exec != want {
				t.Errorf("exec:\n got %+v\nwant %+v", e.Exec, want)
			}
		case event.KindExit:
			if e.Subject != id || e.Exit.Status.Code() != 3 || e.Exit.Status.Signaled() || e.Exit.HasChildren {
				t.Errorf("exit: %v %+v, want %v exit 3", e.Subject, e.Exit, id)
			}
			if e.Exit.PeakRSS == 0 {
				t.Errorf("exit: no usage: %+v", e.Exit)
			}
			return true
		}
		return false
	})
}

// TestLivePrograms follows which of its programs a process runs through fork, exec and exit,
// and compares what the task list says of it.
func TestLivePrograms(t *testing.T) {
	p := open(t, Options{})
	self := taskOf(t, p, int32(os.Getpid()))
	cmd := exec.Command("/bin/sh", "-c", "exec sleep 300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := int32(cmd.Process.Pid)
	var executed uint32
	execs := 0 // of sh and sleep; what busybox executes is named in another way
	until(t, p, func(e *event.Event) bool {
		if e.Subject.PID != pid {
			return false
		}
		if e.Kind == event.KindFork && e.ExecID != self.ExecID {
			t.Errorf("fork: program %d, want ours, %d", e.ExecID, self.ExecID)
		}
		executed = e.ExecID
		if e.Kind == event.KindExec {
			execs++
		}
		return execs == 2
	})
	if executed != self.ExecID+2 {
		t.Errorf("two execs after the fork it runs program %d, want %d", executed, self.ExecID+2)
	}
	if task := taskOf(t, p, pid); task.ExecID != executed {
		t.Errorf("the task list says program %d, want %d", task.ExecID, executed)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	until(t, p, func(e *event.Event) bool {
		if e.Kind != event.KindExit || e.Subject.PID != pid {
			return false
		}
		if e.ExecID != executed {
			t.Errorf("exit: program %d, want %d", e.ExecID, executed)
		}
		return true
	})
}

// taskOf returns what the task list says of a process; Usage must say the same.
func taskOf(t *testing.T, p *Probe, pid int32) event.Task {
	t.Helper()
	find := func(tasks []event.Task, err error) event.Task {
		if err != nil {
			t.Fatal(err)
		}
		for i := range tasks {
			if tasks[i].ID.PID == pid {
				return tasks[i]
			}
		}
		t.Fatalf("pid %d is not listed", pid)
		return event.Task{}
	}
	task, usage := find(p.Tasks()), find(p.Usage())
	if task.UIDs() != usage.UIDs() || task.ExecID != usage.ExecID {
		t.Errorf("pid %d: %+v and %+v", pid, task, usage)
	}
	return task
}

// TestLiveUserIDs looks for all three user ids of a process, alive and at its exit.
func TestLiveUserIDs(t *testing.T) {
	const child = "ABOT_TRACE_TEST_USER_IDS"
	if os.Getenv(child) != "" {
		if err := unix.Setresuid(71, 72, 73); err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("set")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	p := open(t, Options{})
	cmd := exec.Command(os.Args[0], "-test.run=^TestLiveUserIDs$")
	cmd.Env = append(os.Environ(), child+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	pid := int32(cmd.Process.Pid)
	want := event.UIDs{Real: 71, Effective: 72, Saved: 73}
	if task := taskOf(t, p, pid); task.UIDs() != want {
		t.Errorf("the task list says %+v, want %+v", task.UIDs(), want)
	}
	_, _ = in.Write([]byte("\n"))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	until(t, p, func(e *event.Event) bool {
		if e.Kind != event.KindExit || e.Subject.PID != pid {
			return false
		}
		if got := (event.UIDs{Real: e.UID, Effective: e.Exit.EUID, Saved: e.Exit.SUID}); got != want {
			t.Errorf("exit: %+v, want %+v", got, want)
		}
		return true
	})
}

// sessionOfTest is the session that the test's children inherit, as getsid(2) numbers it: 0 where
// its leader lives outside the pid namespace.
func sessionOfTest(t *testing.T) int32 {
	t.Helper()
	session, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	return int32(session)
}

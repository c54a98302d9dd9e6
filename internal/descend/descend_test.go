// SPDX-License-Identifier: Apache-2.0

package descend

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAlive(t *testing.T) {
	for _, tt := range []struct {
		p    Proc
		want bool
	}{
		{Proc{State: 'S', Threads: 1}, true},
		{Proc{State: 'Z', Threads: 1}, false},
		{Proc{State: 'Z', Threads: 3}, true}, // its leader ended, other threads live
		{Proc{State: 'X', Threads: 0}, false},
	} {
		if got := tt.p.Alive(); got != tt.want {
			t.Errorf("%+v: alive %v", tt.p, got)
		}
	}
}

// startSleep starts a shell with one sleeping child.
func startSleep(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", "sleep 60 & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // our own group, not reaped
		_ = cmd.Wait()
	})
	return cmd
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		}
	}
}

// TestWalk walks with the kernel's child lists and without.
func TestWalk(t *testing.T) {
	cmd := startSleep(t)
	for _, files := range []bool{true, false} {
		saved := hasChildrenFiles
		hasChildrenFiles = func() bool { return files && saved() }
		t.Cleanup(func() { hasChildrenFiles = saved })
		waitFor(t, "shell and sleep are found, parents first", func() bool {
			procs, err := List(os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(procs, func(p Proc) bool { return p.PID == cmd.Process.Pid })
			return i >= 0 && i+1 < len(procs) && procs[i+1].Comm == "sleep" && procs[i+1].PPID == cmd.Process.Pid
		})
		if err := Walk(os.Getpid(), func(p Proc) bool {
			if p.PPID == cmd.Process.Pid {
				t.Error("visited below a process whose descendants were left out")
			}
			return false
		}); err != nil {
			t.Fatal(err)
		}
		hasChildrenFiles = saved
	}
}

// TestSignalVerifies wants a signal for an identity that is no more, or not this
// one, to hit nobody.
func TestSignalVerifies(t *testing.T) {
	cmd := startSleep(t)
	p, err := Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := p
	other.Start--
	if err := Signal(other, unix.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signal to another start: %v, want ErrGone", err)
	}
	adopted := p
	adopted.PPID = 1
	if err := Signal(adopted, 0); err != nil {
		t.Errorf("a process that its subreaper, the caller, adopted: %v", err)
	}
	if err := Signal(p, 0); err != nil {
		t.Errorf("the process did not survive the wrong signals: %v", err)
	}
	if err := Signal(p, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := Signal(p, unix.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signal to a reaped process: %v, want ErrGone", err)
	}
}

func TestSelf(t *testing.T) {
	if err := Check(); err != nil {
		t.Error(err)
	}
	if a := Ancestors(os.Getpid()); len(a) == 0 || a[0] != os.Getppid() {
		t.Errorf("ancestors %v, want %d first", a, os.Getppid())
	}
	if args, err := Cmdline(os.Getpid()); err != nil || !slices.Equal(args, os.Args) {
		t.Errorf("own arguments %q, %v; want %q", args, err, os.Args)
	}
	if _, err := Environ(os.Getpid()); err != nil {
		t.Error(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/event"
)

func TestTasksShowsOurselves(t *testing.T) {
	p := open(t, Options{})
	tasks, err := p.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		switch task.ID.PID {
		case 1:
			if !task.NSInit || task.Kthread || task.Comm.String() == "" || task.Dead {
				t.Errorf("pid 1: %+v", task)
			}
		case int32(os.Getpid()):
			comm, err := os.ReadFile("/proc/self/comm")
			if err != nil {
				t.Fatal(err)
			}
			if task.Comm.String()+"\n" != string(comm) || task.Parent.PID != int32(os.Getppid()) ||
				task.Threads < 2 || task.RSS == 0 || task.CPU == 0 || task.NSInit {
				t.Errorf("ourselves: %+v, comm %q, ppid %d", task, comm, os.Getppid())
			}
		}
	}
}

// TestUsageAgrees compares what both iterators tell of who sleeps and of ourselves.
func TestUsageAgrees(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}()
	p := open(t, Options{})
	was, got, is := lookAround(t, p, sleeper.Process.Pid)
	for was != is { // it is about to sleep
		was, got, is = lookAround(t, p, sleeper.Process.Pid)
	}
	if diff := cmp.Diff(usageIn(was), got); diff != "" {
		t.Errorf("the sleeper in Tasks and in Usage:\n%s", diff)
	}
	was, got, is = lookAround(t, p, os.Getpid())
	if got.CPU < was.CPU || got.CPU > is.CPU || got.RSS == 0 {
		t.Errorf("ourselves: CPU %d between %d and %d, RSS %d", got.CPU, was.CPU, is.CPU, got.RSS)
	}
	was.CPU, was.RSS, was.State, was.Threads = got.CPU, got.RSS, got.State, got.Threads // we are at work
	if diff := cmp.Diff(usageIn(was), got); diff != "" {
		t.Errorf("ourselves in Tasks and in Usage:\n%s", diff)
	}
}

// lookAround finds a process in Usage, and in Tasks before and after it.
func lookAround(t *testing.T, p *Probe, pid int) (before, usage, after event.Task) {
	t.Helper()
	for _, look := range []struct {
		tasks func() ([]event.Task, error)
		into  *event.Task
	}{{p.Tasks, &before}, {p.Usage, &usage}, {p.Tasks, &after}} {
		tasks, err := look.tasks()
		if err != nil {
			t.Fatal(err)
		}
		*look.into = find(t, tasks, pid)
	}
	return before, usage, after
}

func find(t *testing.T, tasks []event.Task, pid int) event.Task {
	t.Helper()
	i := slices.IndexFunc(tasks, func(task event.Task) bool { return task.ID.PID == int32(pid) })
	if i < 0 {
		t.Fatalf("pid %d is not there", pid)
	}
	return tasks[i]
}

// TestEachTaskAgain looks twice into the same memory, from two goroutines.
func TestEachTaskAgain(t *testing.T) {
	p := open(t, Options{})
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			for range 3 {
				found := 0
				err := p.EachTask(func(task event.Task) {
					if task.ID.PID == int32(os.Getpid()) {
						found++
					}
				})
				if err != nil || found != 1 {
					t.Errorf("ourselves: %d times (%v), want once", found, err)
				}
			}
		})
	}
	both.Wait()
}

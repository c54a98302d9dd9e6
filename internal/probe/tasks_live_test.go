// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"sync"
	"testing"

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

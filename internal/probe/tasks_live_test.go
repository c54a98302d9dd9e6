// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"testing"
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

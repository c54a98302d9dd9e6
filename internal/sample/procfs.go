// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"errors"
	"io/fs"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// Procfs lists processes by reading /proc, for where the task iterator is refused.
// It does not ask a library, which tells the start as a time of day and so gives another
// one when the clock steps: a start is half of an identity. Its starts have the precision of
// a clock tick (10 ms).
type Procfs struct {
	// Root is where procfs is mounted; empty is /proc.
	Root string
	// NoSwap leaves Swap and UID out and so halves the cost.
	NoSwap bool
}

// Tasks implements [TaskSource]. A process that ends while it is read is left out, and one
// that may not be seen.
func (p Procfs) Tasks(yield func(event.Task)) error {
	proc := procfs.FS{Root: p.Root}
	pids, err := proc.PIDs()
	if err != nil {
		return err
	}
	tasks := make([]event.Task, 0, len(pids))
	starts := make(map[int32]uint64, len(pids))
	for _, pid := range pids {
		task, err := readTask(proc, pid, !p.NoSwap)
		if errors.Is(err, procfs.ErrGone) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return err
		}
		starts[task.ID.PID] = task.ID.Start
		tasks = append(tasks, task)
	}
	for i := range tasks {
		tasks[i].Parent.Start = starts[tasks[i].Parent.PID]
		yield(tasks[i])
	}
	return nil
}

// readTask reads one process; withStatus adds what its stat does not have, and the memory
// that it has only roughly.
func readTask(proc procfs.FS, pid int32, withStatus bool) (event.Task, error) {
	p, err := proc.Open(pid)
	if err != nil {
		return event.Task{}, err
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return event.Task{}, err
	}
	task := event.Task{
		ID:      event.ID{PID: st.PID, Start: st.StartNS()},
		Parent:  event.ID{PID: st.PPID},
		Comm:    st.Comm,
		State:   st.State,
		Dead:    st.Dead(),
		Kthread: st.Kthread,
		Origin:  event.Origin{Tty: st.TTY != 0},
		Threads: int(st.Threads),
		RSS:     st.RSS,
		CPU:     st.CPU,
	}
	if !withStatus {
		return task, nil
	}
	status, err := p.Status()
	if err != nil {
		return event.Task{}, err
	}
	task.UID, task.Swap = status.UID, status.Swap
	if status.RSS != 0 {
		task.RSS = status.RSS
	}
	return task, nil
}

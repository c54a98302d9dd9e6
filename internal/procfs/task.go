// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"github.com/abot-trace/abot-trace/internal/event"
)

// AddMissingParents adds the parents that a snapshot refers to but does not show, as procfs
// has them. Some hosts hide init from the task iterator; without it its children
// would look as if nobody had them. The places of all tasks are returned too.
func (fs FS) AddMissingParents(tasks []event.Task) ([]event.Task, map[event.ID]int32) {
	places := make(map[event.ID]int32, len(tasks)+1)
	for i := range tasks {
		places[tasks[i].ID] = int32(i)
	}
	absent := make(map[event.ID]bool)
	for i := 0; i < len(tasks); i++ {
		id := tasks[i].Parent
		if _, ok := places[id]; ok || id.PID == 0 || absent[id] {
			continue
		}
		if task, ok := fs.Task(id); ok {
			places[id] = int32(len(tasks))
			tasks = append(tasks, task)
		} else {
			absent[id] = true
		}
	}
	return tasks, places
}

// Task reads one process; false where it is gone or cannot be read. Its parent's identity
// is left out: procfs has only a pid.
func (fs FS) Task(id event.ID) (event.Task, bool) {
	p, err := fs.OpenID(id)
	if err != nil {
		return event.Task{}, false
	}
	defer p.Close()
	stat, err := p.Stat()
	if err != nil || stat.Dead() {
		return event.Task{}, false
	}
	status, err := p.Status()
	if err != nil {
		return event.Task{}, false
	}
	return event.Task{
		ID:          id,
		HostPID:     id.PID,
		Comm:        stat.Comm,
		UID:         status.UID,
		Origin:      event.Origin{Session: stat.Session, SessionOwn: stat.Session == stat.PID},
		NSInit:      id.PID == 1 || status.NSInit(),
		NeverExeced: stat.NeverExeced,
		State:       stat.State,
		Threads:     int(stat.Threads),
		RSS:         status.RSS,
		Swap:        status.Swap,
	}, true
}

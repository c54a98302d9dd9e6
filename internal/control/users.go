// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// readUserIDs reads the user ids of a process from /proc/PID/status. It does not wait for
// the process.
func readUserIDs(id event.ID) (event.UIDs, error) {
	p, err := procfs.FS{}.OpenID(id)
	if err != nil {
		return event.UIDs{}, err
	}
	defer p.Close()
	st, err := p.Status()
	if err != nil {
		return event.UIDs{}, err
	}
	return event.UIDs{Real: st.UID, Effective: st.EUID, Saved: st.SUID}, nil
}

// maxSingleReads is how many processes are asked for their user ids one by one: to ask the
// kernel for those of all takes as long.
const maxSingleReads = 32

// userIDs tells the user ids of processes as they are now, to within cacheFor; to within
// cacheMax where many are asked for. It belongs to the loop.
type userIDs struct {
	read  func(event.ID) (event.UIDs, error)
	all   func() ([]event.Task, error)
	known map[event.ID]knownIDs
	began uint64 // when known was empty: CLOCK_BOOTTIME, ns
	whole bool   // known has all processes
}

type knownIDs struct {
	ids event.UIDs
	at  uint64 // CLOCK_BOOTTIME, ns
}

func newUserIDs(all func() ([]event.Task, error)) *userIDs {
	return &userIDs{read: readUserIDs, all: all, known: make(map[event.ID]knownIDs)}
}

// forget has everyone asked again.
func (u *userIDs) forget() {
	clear(u.known)
	u.whole = false
}

// get returns the user ids of a living process. An error is no answer.
func (u *userIDs) get(id event.ID) (event.UIDs, error) {
	now := boottime.Now()
	if now-u.began > uint64(cacheMax) {
		u.forget()
		u.began = now
	}
	if k, ok := u.known[id]; ok && (u.whole || now-k.at < uint64(cacheFor)) {
		return k.ids, nil
	}
	if len(u.known) >= maxSingleReads && !u.whole {
		if err := u.readAll(); err != nil {
			return event.UIDs{}, err
		}
		if k, ok := u.known[id]; ok {
			return k.ids, nil
		}
	}
	ids, err := u.read(id)
	if err == nil {
		u.known[id] = knownIDs{ids, now}
	}
	return ids, err
}

func (u *userIDs) readAll() error {
	tasks, err := u.all()
	if err != nil {
		return fmt.Errorf("user ids: %w", err)
	}
	u.forget()
	u.began, u.whole = boottime.Now(), true
	for i := range tasks {
		u.known[tasks[i].ID] = knownIDs{tasks[i].UIDs(), u.began}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// freeze stops the tree, and who is born into it meanwhile, if there are more than
// one. What it stops is in the journal first. It is a help and not a condition: a
// tree that cannot be stopped is ended all the same.
func (k *kill) freeze() {
	if k.Journal == nil || len(k.which(isNotLast)) < 2 {
		return
	}
	for k.pass() {
		todo := k.which(func(m *member) bool { return !m.Last && !m.stopped && !m.halted && m.signal == 0 })
		if len(todo) == 0 {
			return
		}
		if err := k.journal(todo); err != nil {
			k.note("not stopped first", err)
			return
		}
		for _, m := range todo {
			if k.noteState(m); !m.halted {
				k.send(m, unix.SIGSTOP)
			}
		}
		k.refresh()
	}
}

// noteState notes whether somebody else has stopped m: it must not be made to continue
// if we let go, and must if we do not, to see its SIGTERM. It also notes the memory of
// one that is younger than the last sample: it has not had the time to be swapped out.
func (k *kill) noteState(m *member) {
	if m.stopped {
		return
	}
	state, resident, err := k.FS.Condition(m.ID.PID)
	if err != nil {
		m.halted = false
		return
	}
	m.halted = state == 'T'
	if m.RSS == nil {
		m.RSS = &resident
	}
}

// journal writes down who is stopped and who is about to be.
func (k *kill) journal(todo []*member) error {
	var ids []event.ID
	for _, m := range k.members {
		if m.stopped {
			ids = append(ids, m.ID)
		}
	}
	for _, m := range todo {
		ids = append(ids, m.ID)
	}
	k.journaled = true
	return k.Journal.Stopping(k.req.KillID, ids)
}

// thaw lets everything that we have stopped continue, whatever has become of it.
func (k *kill) thaw() {
	for _, m := range k.members {
		if m.stopped {
			// ESRCH is fine. A refusal of what was permitted for SIGSTOP takes a change
			// of user in between, and then the process is out of reach.
			pidfdSend(m.fd, unix.SIGCONT)
			m.stopped = false
		}
	}
}

// forget takes those who were let continue out of the journal: until then a successor would
// only do so once more.
func (k *kill) forget() {
	if !k.journaled {
		return
	}
	k.journaled = false
	if err := k.Journal.Thawed(k.req.KillID); err != nil {
		k.note("journal", err)
	}
}

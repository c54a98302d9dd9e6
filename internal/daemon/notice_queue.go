// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
)

// noticeDelay is how long what happened waits to be told, maxNotices how much of it.
const (
	noticeDelay = time.Millisecond
	maxNotices  = 1024
)

// A noticeQueue has the journal, the helper and the log told of what happened, a moment later
// and in order. To make those records takes longer than all that is done about an orphan:
// whoever does that, and whoever dies of it, is to have the processors first. It belongs
// to the tracer's loop.
type noticeQueue struct {
	waiting []func()
	due     uint64 // CLOCK_BOOTTIME ns; while anything waits
}

func (t *noticeQueue) add(fn func()) {
	if len(t.waiting) == 0 {
		t.due = boottime.Now() + uint64(noticeDelay)
	}
	if t.waiting = append(t.waiting, fn); len(t.waiting) == maxNotices {
		t.deliver()
	}
}

// deliverDue tells what is due, and returns when to look again: 0 where nothing waits.
func (t *noticeQueue) deliverDue() uint64 {
	if len(t.waiting) == 0 {
		return 0
	}
	if boottime.Now() < t.due {
		return t.due
	}
	t.deliver()
	return 0
}

// deliver tells all that waits.
func (t *noticeQueue) deliver() {
	for i, fn := range t.waiting {
		fn()
		t.waiting[i] = nil
	}
	t.waiting = t.waiting[:0]
}

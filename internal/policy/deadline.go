// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"github.com/abot-trace/abot-trace/internal/event"
)

// deadline is an instant at which an orphan is to be judged again.
type deadline struct {
	at uint64
	id event.ID
}

// deadlines is a binary heap, the earliest first.
type deadlines []deadline

func (h *deadlines) push(d deadline) {
	*h = append(*h, d)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if s[parent].at <= s[i].at {
			return
		}
		s[parent], s[i] = s[i], s[parent]
		i = parent
	}
}

func (h *deadlines) pop() deadline {
	s := *h
	first, last := s[0], len(s)-1
	s[0] = s[last]
	*h = s[:last]
	s = s[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(s) {
			return first
		}
		if child+1 < len(s) && s[child+1].at < s[child].at {
			child++
		}
		if s[i].at <= s[child].at {
			return first
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
}

// NextDeadline returns the instant at which [Engine.Due] has work, false if none is
// in sight. It may be spurious. Ages and waits have deadlines; memory, the host's
// figures and ages inside an expression are looked at with each full pass.
func (e *Engine) NextDeadline() (uint64, bool) {
	if len(e.deadlines) == 0 {
		return 0, false
	}
	return e.deadlines[0].at, true
}

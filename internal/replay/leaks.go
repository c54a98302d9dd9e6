// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"io"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Leaks are the leaks that the events of one host tell of. Make it with NewLeaks.
type Leaks struct {
	// Courses has what each had cost when, by id.
	Courses map[string]leak.Course
	// Last is when the last event happened, zero before the first.
	Last time.Time
	// Unreadable counts lines that are no event of this schema.
	Unreadable int

	byID   map[string]*wire.Leak
	order  []string
	newest uint64          // CLOCK_BOOTTIME of the boot that is told of, ns
	seen   map[string]bool // events
}

// NewLeaks returns the leaks of no event.
func NewLeaks() *Leaks {
	return &Leaks{Courses: make(map[string]leak.Course), byID: make(map[string]*wire.Leak), seen: make(map[string]bool)}
}

// ReadLeaks reads NDJSON to its end, passing over lines that are no events.
func ReadLeaks(r io.Reader) (*Leaks, error) {
	l := NewLeaks()
	err := eachEvent(r, func(e *wire.Event) error {
		if e == nil {
			l.Unreadable++
			return nil
		}
		return l.Apply(e)
	})
	return l, err
}

// Apply takes an event. One that was taken before changes nothing.
func (l *Leaks) Apply(e *wire.Event) error {
	if e.TimeNS != 0 && e.TimeNS+uint64(reorder) < l.newest {
		l.endAll()
		l.newest = 0
	}
	l.newest = max(l.newest, e.TimeNS)
	if e.Time.After(l.Last) {
		l.Last = e.Time
	}
	if e.Type != wire.TypeLeak || e.Leak == nil || e.ID != "" && l.seen[e.ID] {
		return nil
	}
	if len(l.seen) < maxProcesses {
		l.seen[e.ID] = true
	}
	id := e.Leak.ID
	if l.byID[id] == nil {
		if len(l.byID) >= maxProcesses {
			return nil
		}
		l.order = append(l.order, id)
	}
	l.byID[id] = e.Leak
	course := l.Courses[id]
	course.Add(e.Leak, e.Time)
	l.Courses[id] = course
	return nil
}

// endAll ends what is open: it ended with its boot, and nobody saw how.
func (l *Leaks) endAll() {
	for _, w := range l.byID {
		if w.State == wire.LeakStateOpen {
			at := l.Last
			w.State, w.EndedAt = wire.LeakStateEnded, &at
			w.Processes.Now, w.RSSBytes, w.SwapBytes, w.Members = 0, nil, nil, nil
		}
	}
}

// List returns them as they were told of last, without what only an event tells, those opened
// first first.
func (l *Leaks) List() []wire.Leak {
	list := make([]wire.Leak, 0, len(l.order))
	for _, id := range l.order {
		w := *l.byID[id]
		w.Change, w.Previous, w.Threshold = "", "", ""
		list = append(list, w)
	}
	slices.SortStableFunc(list, func(a, b wire.Leak) int { return a.OpenedAt.Compare(b.OpenedAt) })
	return list
}

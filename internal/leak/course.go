// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"slices"
	"sort"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Cost is what a leak had cost up to an instant.
type Cost struct {
	At                      time.Time
	ByteSeconds, CPUSeconds float64
}

// A Course is what a leak had cost at instants that somebody was told of, oldest first.
type Course []Cost

// maxCourse bounds what is kept of one leak.
const maxCourse = 1024

// Add adds what an event tells, which happened at that time. A course that is full loses every
// other instant, and from then on those that follow each other closer than the others.
func (c *Course) Add(l *wire.Leak, at time.Time) {
	if l.ByteSeconds == nil && l.CPUSeconds == nil {
		return
	}
	if n := len(*c); n >= maxCourse {
		kept := (*c)[:0]
		for i := 0; i < n; i += 2 {
			kept = append(kept, (*c)[i])
		}
		*c = kept
	} else if n >= maxCourse/2 {
		first, last := (*c)[0].At, (*c)[n-1].At
		if at.Sub(last) < last.Sub(first)/maxCourse {
			return
		}
	}
	*c = append(*c, Cost{at, valueOf(l.ByteSeconds), valueOf(l.CPUSeconds)})
}

// Inside returns the leaks that were open at some time between since and until, with what they
// have cost inside that range only; a zero time is no bound. Between two instants of its course
// a leak's cost is taken to grow evenly. now is when the leaks were as list has them.
func Inside(list []wire.Leak, courses map[string]Course, now, since, until time.Time) []wire.Leak {
	list = Within(list, since, until)
	for i := range list {
		l := &list[i]
		full := fullCourse(l, courses[l.ID], now)
		from, to := full[0], full[len(full)-1]
		if !since.IsZero() {
			from = full.at(since)
		}
		if !until.IsZero() {
			to = full.at(until)
		}
		if l.ByteSeconds != nil {
			bytes := max(0, to.ByteSeconds-from.ByteSeconds)
			l.ByteSeconds = &bytes
		}
		if l.CPUSeconds != nil {
			cpu := max(0, to.CPUSeconds-from.CPUSeconds)
			l.CPUSeconds = &cpu
		}
	}
	return list
}

// fullCourse is the course of a leak from its opening, when it had cost nothing, to its end or
// to now.
func fullCourse(l *wire.Leak, told Course, now time.Time) Course {
	end := now
	if l.EndedAt != nil {
		end = *l.EndedAt
	}
	if end.Before(l.OpenedAt) {
		end = l.OpenedAt
	}
	full := Course{{At: l.OpenedAt}}
	for _, c := range told {
		if c.At.After(l.OpenedAt) && c.At.Before(end) {
			full = append(full, c)
		}
	}
	slices.SortStableFunc(full, func(a, b Cost) int { return a.At.Compare(b.At) })
	return append(full, Cost{end, valueOf(l.ByteSeconds), valueOf(l.CPUSeconds)})
}

// at is the cost up to an instant.
func (c Course) at(t time.Time) Cost {
	after := sort.Search(len(c), func(i int) bool { return c[i].At.After(t) })
	switch after {
	case 0:
		return c[0]
	case len(c):
		return c[len(c)-1]
	}
	a, b := c[after-1], c[after]
	part := float64(t.Sub(a.At)) / float64(b.At.Sub(a.At))
	return Cost{t, a.ByteSeconds + part*(b.ByteSeconds-a.ByteSeconds), a.CPUSeconds + part*(b.CPUSeconds-a.CPUSeconds)}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// An eventQuery is which events are to be shown.
type eventQuery struct {
	past.Query
	history bool // out of an archive
	last    int  // of the past, the last so many; -1 is all
	follow  bool
	pick    *filter
	shown   int // so far
	others  int // that did not pass
}

func readEventQuery(c *cli.Context) (q eventQuery, err error) {
	if err := noArgs(c); err != nil {
		return q, err
	}
	if list := c.String("type"); list != "" {
		q.Types = strings.Split(list, ",")
	}
	if err := api.CheckTypes(q.Types); err != nil {
		return q, usageError("--type: %w", err)
	}
	if q.From, err = pastTime(c, "since"); err != nil {
		return q, err
	}
	if q.To, err = pastTime(c, "until"); err != nil {
		return q, err
	}
	if pid := c.Int("pid"); c.IsSet("pid") && (pid <= 0 || pid > math.MaxInt32) {
		return q, usageError("--pid %d: want a positive number", pid)
	} else {
		q.PID = int32(pid)
	}
	if q.pick, err = newFilter(c); err != nil {
		return q, err
	}
	q.follow, q.last, q.history = c.Bool("follow"), -1, c.IsSet("history")
	switch {
	case c.IsSet("n") && c.Int("n") < 0:
		return q, usageError("-n %d: want a number of 0 or more", c.Int("n"))
	case c.IsSet("n"):
		q.last = c.Int("n")
	case q.follow && !c.IsSet("since"):
		q.last = followedPast
	}
	switch {
	case c.Bool("no-daemon") && !q.follow:
		return q, usageError("events: --no-daemon wants --follow: without a daemon there is no past")
	case q.follow && (q.history || c.IsSet("until")):
		return q, usageError("events: --follow goes on with what comes: neither --until nor --history can stand beside it")
	}
	return q, nil
}

// ranged reports whether the disk is asked.
func (q *eventQuery) ranged() bool {
	return q.history || q.PID != 0 || !q.From.IsZero() || !q.To.IsZero()
}

// whole reports whether everything is to be shown, as it comes.
func (q *eventQuery) whole() bool { return q.last < 0 && !q.pick.active }

// picks reports whether the event is to be shown, and counts.
func (q *eventQuery) picks(e *wire.Event) bool {
	ok := q.pick.event(e) && (q.PID == 0 || e.Type == wire.TypeLost || past.IsAbout(e, q.PID))
	if ok {
		q.shown++
	} else {
		q.others++
	}
	return ok
}

// A latest keeps the last events of those that it is given; all, where n is negative.
type latest struct {
	n    int
	list []*wire.Event
	fn   func(*wire.Event) error
}

func (l *latest) add(e *wire.Event) error {
	if l.n < 0 {
		return l.fn(e)
	}
	if l.list = append(l.list, e); len(l.list) > 2*l.n {
		l.list = slices.Delete(l.list, 0, len(l.list)-l.n)
	}
	return nil
}

// end hands over what was kept.
func (l *latest) end() error {
	if l.n < 0 {
		return nil
	}
	for _, e := range l.list[max(0, len(l.list)-l.n):] {
		if err := l.fn(e); err != nil {
			return err
		}
	}
	return nil
}

// A seen remembers the last events that were read, so that none is shown twice where two
// readings join.
type seen struct {
	ids  map[string]bool
	ring []string
	next int
	at   uint64 // CLOCK_BOOTTIME ns of the last
}

// maxSeen is more than the daemon remembers.
const maxSeen = 1 << 14

func (s *seen) note(e *wire.Event) {
	if s.ids == nil {
		s.ids, s.ring = make(map[string]bool), make([]string, maxSeen)
	}
	delete(s.ids, s.ring[s.next])
	s.ids[e.ID], s.ring[s.next], s.next = true, e.ID, (s.next+1)%maxSeen
	s.at = e.TimeNS
}

// run calls fn with each event that is to be shown of those that are remembered, and of those
// that come.
func (q *eventQuery) run(ctx context.Context, from inspector, fn func(*wire.Event) error) error {
	if q.last < 0 {
		return from.Events(ctx, q.Types, 0, q.follow, func(e *wire.Event) error {
			if !q.picks(e) {
				return nil
			}
			return fn(e)
		})
	}
	shown := latest{n: q.last, fn: fn}
	var before seen
	err := from.Events(ctx, q.Types, 0, false, func(e *wire.Event) error {
		before.note(e)
		if !q.picks(e) {
			return nil
		}
		return shown.add(e)
	})
	if err == nil {
		err = shown.end()
	}
	if err != nil || !q.follow {
		return err
	}
	return q.goOn(ctx, from, &before, fn)
}

// goOn calls fn with each event that comes after those that were seen.
func (q *eventQuery) goOn(ctx context.Context, from inspector, before *seen, fn func(*wire.Event) error) error {
	// Records of several processors may be out of order by a little.
	at := max(before.at, uint64(time.Second)) - uint64(time.Second)
	if at > boottime.Now() {
		at = 0 // of another boot
	}
	return from.Events(ctx, q.Types, at, true, func(e *wire.Event) error {
		if e.ID != "" && before.ids[e.ID] || !q.picks(e) {
			return nil
		}
		return fn(e)
	})
}

// showRange prints the events of a range, or about one process.
func showRange(ctx context.Context, c *cli.Context, q *eventQuery) error {
	show := eventPrinter(c)
	if q.history {
		return q.showArchive(ctx, c, show)
	}
	client, err := reachPast(ctx, c)
	if err != nil {
		return err
	}
	if c.Bool("json") && q.whole() && !q.follow {
		out := rawWriter(c.App.Writer)
		return explained(client.LinesBetween(ctx, q.Query, func(lines []byte) error {
			_, err := out.Write(lines)
			return err
		}))
	}
	shown := latest{n: q.last, fn: show}
	before, err := q.read(ctx, client, shown.add)
	if err == nil {
		err = shown.end()
	}
	if err == nil && q.follow {
		err = q.goOn(ctx, client, before, show)
	}
	return explained(err)
}

// read calls fn with each event of the range.
func (q *eventQuery) read(ctx context.Context, client *api.Client, fn func(*wire.Event) error) (*seen, error) {
	before := new(seen)
	return before, client.EventsBetween(ctx, q.Query, func(e *wire.Event) error {
		if e.ID != "" {
			before.note(e)
		}
		if !q.picks(e) {
			return nil
		}
		return fn(e)
	})
}

// showArchive prints the events of an archive.
func (q *eventQuery) showArchive(ctx context.Context, c *cli.Context, show func(*wire.Event) error) error {
	a, err := openArchive(c)
	if err != nil {
		return err
	}
	defer a.close()
	shown := latest{n: q.last, fn: show}
	missed, err := past.Events(ctx, a, q.Query, func(e *wire.Event) error {
		if !q.picks(e) {
			return nil
		}
		return shown.add(e)
	})
	if err == nil {
		err = shown.end()
	}
	if missed > 0 {
		notePast(c, []string{fmt.Sprintf("%d entries could not be read", missed)})
	}
	return err
}

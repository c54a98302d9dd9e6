// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "show recent events, and follow new ones",
		Description: `Prints what the daemon remembers of the stream. Without a daemon there is no past:
--follow then traces by itself.

A reader that is too slow misses events and is told so by an event of type lost. A line
names pid, program and unit; below orphans, verdicts, leaks and kills stand the reasons,
the deciding one first, and the command that tells more.

Notable events (all but forks, execs, exits and signals) are kept on disk. With a cursor they
come from there: a reader that is slow or was away gets all that is still kept, and is told
how much is not.

Examples:
   abot-trace events -n 20
   abot-trace events --type orphan,kill --since 1h
   abot-trace events --type kill,leak --unit 'web*.service'
   abot-trace events --follow --type orphan
   abot-trace events --follow --cursor-file /var/lib/shipper/cursor --json
   abot-trace events --follow --json | jq -c 'select(.type == "exit")'`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with new events until interrupted; begins with the last 10"},
			&cli.IntFlag{Name: "n", Usage: "only the last `N` events, before new ones"},
			&cli.StringFlag{Name: "type", Usage: "only these `TYPES`, separated by commas: " + strings.Join(wire.Types, ", ")},
			&cli.StringFlag{Name: "since", Usage: "only events since `T`: an age as 90s, 1h or 7d, or a time as 2026-01-31T15:04:05Z"},
			jsonFlag(), colorFlag(), socketFlag(), noDaemonFlag(),
		}, append(filterFlags(), cursorFlags()...)...),
		Action: showEvents,
	}
}

// followedPast is how many past events --follow begins with.
const followedPast = 10

func showEvents(c *cli.Context) error {
	q, err := readEventQuery(c)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	switch cursor, ok, err := startCursor(c); {
	case err != nil:
		return err
	case ok:
		return showFrom(ctx, c, &q, cursor)
	}
	from, closer, err := openInspector(ctx, c)
	if err != nil {
		return err
	}
	defer closer()
	if _, own := from.(*local); own && !q.follow {
		return withHint(errors.New("no daemon runs here, and without one there is no past"),
			"--follow traces from now on")
	}
	if c.Bool("json") && q.whole() {
		out := rawWriter(c.App.Writer)
		return explained(from.Lines(ctx, q.types, q.since, q.follow, func(lines []byte) error {
			_, err := out.Write(lines)
			return err
		}))
	}
	return explained(q.run(ctx, from, eventPrinter(c)))
}

// eventPrinter prints one event, as text or as a line of JSON.
func eventPrinter(c *cli.Context) func(*wire.Event) error {
	if !c.Bool("json") {
		style := styleOf(c)
		return func(e *wire.Event) error { return render.Event(c.App.Writer, e, style) }
	}
	var line []byte
	return func(e *wire.Event) error {
		line = wire.AppendEvent(line[:0], e)
		_, err := c.App.Writer.Write(line)
		return err
	}
}

// An eventQuery is which events are to be shown.
type eventQuery struct {
	types  []string
	since  uint64 // CLOCK_BOOTTIME, ns
	last   int    // of the past, the last so many; -1 is all
	follow bool
	pick   *filter
}

func readEventQuery(c *cli.Context) (q eventQuery, err error) {
	if err := noArgs(c); err != nil {
		return q, err
	}
	if list := c.String("type"); list != "" {
		q.types = strings.Split(list, ",")
	}
	if err := api.CheckTypes(q.types); err != nil {
		return q, usageError("--type: %w", err)
	}
	if q.since, err = parseSince(c.String("since")); err != nil {
		return q, usageError("--since: %w", err)
	}
	if q.pick, err = newFilter(c); err != nil {
		return q, err
	}
	q.follow, q.last = c.Bool("follow"), -1
	switch {
	case c.IsSet("n") && c.Int("n") < 0:
		return q, usageError("-n %d: want a number of 0 or more", c.Int("n"))
	case c.IsSet("n"):
		q.last = c.Int("n")
	case q.follow && !c.IsSet("since"):
		q.last = followedPast
	}
	if c.Bool("no-daemon") && !q.follow {
		return q, usageError("events: --no-daemon wants --follow: without a daemon there is no past")
	}
	return q, nil
}

// whole reports whether everything from since on is to be shown, as it comes.
func (q *eventQuery) whole() bool { return q.last < 0 && !q.pick.active }

// run calls fn with each event that is to be shown.
func (q *eventQuery) run(ctx context.Context, from inspector, fn func(*wire.Event) error) error {
	picked := func(e *wire.Event) error {
		if !q.pick.event(e) {
			return nil
		}
		return fn(e)
	}
	if q.last < 0 {
		return from.Events(ctx, q.types, q.since, q.follow, picked)
	}
	var past []*wire.Event
	seen := uint64(0)
	err := from.Events(ctx, q.types, q.since, false, func(e *wire.Event) error {
		seen = max(seen, e.Seq)
		if q.pick.event(e) {
			past = append(past, e)
		}
		if len(past) > 2*q.last {
			past = slices.Delete(past, 0, len(past)-q.last)
		}
		return nil
	})
	if err != nil {
		return err
	}
	since := q.since
	for _, e := range past[max(0, len(past)-q.last):] {
		since = max(since, e.TimeNS)
		if err := fn(e); err != nil {
			return err
		}
	}
	if !q.follow {
		return nil
	}
	// From the last one on, which comes again; what a reader missed has no number.
	return from.Events(ctx, q.types, since, true, func(e *wire.Event) error {
		if e.Seq != 0 && e.Seq <= seen {
			return nil
		}
		return picked(e)
	})
}

// parseSince returns an instant in CLOCK_BOOTTIME ns: an age before now, or a time.
// Empty, and what was before the boot, is 0.
func parseSince(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	age, err := quantity.ParseDuration(text)
	if err != nil {
		at, timeErr := time.Parse(time.RFC3339, text)
		if timeErr != nil {
			return 0, fmt.Errorf("%q: want an age with a unit, as 90s, 1h or 7d", text)
		}
		age = time.Since(at)
	}
	now := boottime.Now()
	if age < 0 {
		return now, nil
	}
	if uint64(age) > now {
		return 0, nil
	}
	return now - uint64(age), nil
}

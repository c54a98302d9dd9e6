// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

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

All are kept on disk for a while, notable ones (all but forks, execs, exits and signals) for
long. With --since, --until or --pid they come from there; with a cursor the notable ones:
a reader that is slow or was away gets all that is still kept, and is told how much is not.

Examples:
   abot-trace events -n 20
   abot-trace events --type orphan,kill --since 1h
   abot-trace events --type kill,leak --unit 'web*.service'
   abot-trace events --pid 4711 --since 7d
   abot-trace events --since 03:00 --until 03:05
   abot-trace events --follow --type orphan
   abot-trace events --follow --cursor-file /var/lib/shipper/cursor --json
   abot-trace events --follow --json | jq -c 'select(.type == "exit")'`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with new events until interrupted; begins with the last 10"},
			&cli.IntFlag{Name: "n", Usage: "only the last `N` events, before new ones"},
			&cli.StringFlag{Name: "type", Usage: "only these `TYPES`, separated by commas: " + strings.Join(wire.Types, ", ")},
			&cli.StringFlag{Name: "since", Usage: "only events since `T`: an age as 90s, 1h or 7d, or a time as 2026-01-31T15:04 or 03:00"},
			&cli.StringFlag{Name: "until", Usage: "only events until `T`"},
			&cli.IntFlag{Name: "pid", Usage: "only events of the process `PID`: its own, and what it forked, signalled or left"},
			historyFlag(), jsonFlag(), colorFlag(), noPagerFlag(), socketFlag(), noDaemonFlag(),
		}, append(filterFlags(), cursorFlags()...)...),
		Action: paged(showEvents),
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
	if err := q.show(ctx, c); err != nil || q.follow || c.Bool("json") || q.shown > 0 || q.others == 0 || !q.pick.active {
		return err
	}
	return q.pick.sayNoneMatch(c.App.ErrWriter, "event", q.others, q.chosen(c)...)
}

// chosen are the flags, as they were typed, by which events are chosen beside the filter.
func (q *eventQuery) chosen(c *cli.Context) (flags []string) {
	for _, name := range []string{"type", "since", "until", "pid"} {
		if c.IsSet(name) {
			flags = append(flags, "--"+name, fmt.Sprint(c.Value(name)))
		}
	}
	return flags
}

func (q *eventQuery) show(ctx context.Context, c *cli.Context) error {
	switch cursor, ok, err := startCursor(c); {
	case err != nil:
		return err
	case ok:
		return showFrom(ctx, c, q, cursor)
	}
	if q.ranged() && !c.Bool("no-daemon") {
		return showRange(ctx, c, q)
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
		return explained(from.Lines(ctx, q.Types, 0, q.follow, func(lines []byte) error {
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

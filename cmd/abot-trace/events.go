// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
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

A reader that is too slow misses events and is told so by an event of type lost.

Examples:
   abot-trace events --type orphan,kill --since 1h
   abot-trace events --follow --type orphan
   abot-trace events --follow --json | jq -c 'select(.type == "exit")'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with new events until interrupted"},
			&cli.StringFlag{Name: "type", Usage: "only these `TYPES`, separated by commas: " + strings.Join(wire.Types, ", ")},
			&cli.StringFlag{Name: "since", Usage: "only events since `T`: an age as 90s, 1h or 7d, or a time as 2026-01-31T15:04:05Z"},
			jsonFlag(), colorFlag(), socketFlag(), noDaemonFlag(),
		},
		Action: showEvents,
	}
}

func showEvents(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	var types []string
	if list := c.String("type"); list != "" {
		types = strings.Split(list, ",")
	}
	if err := api.CheckTypes(types); err != nil {
		return usageError("--type: %w", err)
	}
	since, err := parseSince(c.String("since"))
	if err != nil {
		return usageError("--since: %w", err)
	}
	ctx, stop := interruptible(c)
	defer stop()
	if c.Bool("no-daemon") && !c.Bool("follow") {
		return usageError("events: --no-daemon wants --follow: without a daemon there is no past")
	}
	from, closer, err := openInspector(ctx, c)
	if err != nil {
		return err
	}
	defer closer()
	if _, own := from.(*local); own && !c.Bool("follow") {
		return withHint(errors.New("no daemon runs here, and without one there is no past"),
			"--follow traces from now on")
	}
	if c.Bool("json") {
		out := rawWriter(c.App.Writer)
		return explained(from.Lines(ctx, types, since, c.Bool("follow"), func(lines []byte) error {
			_, err := out.Write(lines)
			return err
		}))
	}
	style := styleOf(c)
	return explained(from.Events(ctx, types, since, c.Bool("follow"), func(e *wire.Event) error {
		return render.Event(c.App.Writer, e, style)
	}))
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

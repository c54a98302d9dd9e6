// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// shownEnded is how long an ended leak is listed where no range is asked for.
const shownEnded = 24 * time.Hour

func leaksCommand() *cli.Command {
	return &cli.Command{
		Name:      "leaks",
		Usage:     "list leaks: who left what, how it died, what that holds and has cost",
		ArgsUsage: "[LEAK]",
		Description: `A leak is what one death left behind: the leaker with all its orphans that are not
deliberate, and what they forked since. Without a range: the open ones, and those that
ended within 24h. PROC and MEMORY are what an open leak holds now, and what an ended one
had in all and held at most; COST is memory over time. With a range: those that were open
in it at any time, and what they have cost inside it.

Examples:
   abot-trace leaks
   abot-trace leaks --open --user bob
   abot-trace leaks --since 7d --by program
   abot-trace leaks --events recorded.ndjson --by program
   abot-trace leaks L0123456789ab
   abot-trace leaks ack F0123456789ab --for 7d --reason 'vendor ticket 1234'
   abot-trace leaks ignore L0123456789ab --reason 'the CI agent reuses them'
   abot-trace leaks --json | jq '.leaks[] | {id, name, processes, rss_bytes}'`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "open", Usage: "only leaks that have not ended"},
			&cli.StringFlag{Name: "since", Usage: "leaks that were open since `T`: an age as 90s, 1h or 7d, or a time as 2026-01-31T15:04:05Z"},
			&cli.StringFlag{Name: "until", Usage: "leaks that were open before `T`"},
			&cli.StringFlag{Name: "by", Usage: "count and sum them by `KEY`: " + strings.Join(leak.Keys, ", ")},
			&cli.IntFlag{Name: "n", Usage: "at most `N` of them, the latest"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "wide: all columns, whatever the width"},
			&cli.StringFlag{Name: "events", Usage: "those that the events of `FILE` tell of, NDJSON as events --json writes it; - is standard input"},
			jsonFlag(), colorFlag(), socketFlag(),
		}, filterFlags()...),
		Subcommands: decideCommands(),
		Action:      showLeaks,
	}
}

func showLeaks(c *cli.Context) error {
	pick, err := leakFilter(c)
	if err != nil {
		return err
	}
	if c.Args().Len() > 1 {
		return usageError("leaks: want one LEAK at most")
	}
	id := c.Args().First()
	if id != "" && !isLeakID(id) {
		return usageError("leaks: %q is no leak's id: want L and 12 hexadecimal digits", id)
	}
	ctx, stop := interruptible(c)
	defer stop()
	doc, courses, err := gatherLeaks(ctx, c, id)
	if err != nil {
		return err
	}
	now := time.Now()
	if id != "" && !c.Bool("json") {
		return render.Leak(c.App.Writer, &doc.Leaks[0], now, styleOf(c))
	}
	if id == "" {
		pick(doc, courses, now)
	}
	by := c.String("by")
	if by != "" {
		doc.Groups, doc.Leaks = leak.Sum(doc.Leaks, by), []wire.Leak{}
	}
	switch {
	case c.Bool("json"):
		return writeJSON(c.App.Writer, doc)
	case by != "":
		return render.LeakGroups(c.App.Writer, by, doc.Groups, now, styleOf(c))
	}
	return render.Leaks(c.App.Writer, doc.Leaks, now, styleOf(c))
}

// askLeaks asks the daemon: without one nobody knows what was left behind.
func askLeaks(ctx context.Context, c *cli.Context, id string) (*wire.Leaks, error) {
	client, err := reach(ctx, c)
	if err != nil {
		return nil, explained(err)
	}
	if client == nil {
		return nil, withHint(errors.New("no daemon runs here, and without one no leak is known"), "abot-trace orphans takes a look of its own")
	}
	doc, err := client.Leaks(ctx, id)
	if err != nil {
		return nil, explained(err)
	}
	return doc, nil
}

// gatherLeaks asks the daemon, or reads the events that --events names, and returns what each
// leak had cost when, where a range is asked for.
func gatherLeaks(ctx context.Context, c *cli.Context, id string) (*wire.Leaks, map[string]leak.Course, error) {
	if c.String("events") != "" {
		return readLeaks(c, id)
	}
	doc, err := askLeaks(ctx, c, id)
	if err != nil || id != "" || c.String("since") == "" && c.String("until") == "" {
		return doc, nil, err
	}
	told := replay.NewLeaks()
	err = api.NewClient(c.String("socket")).Events(ctx, []string{wire.TypeLeak}, 0, false, told.Apply)
	return doc, told.Courses, explained(err)
}

// readLeaks takes the leaks from recorded events.
func readLeaks(c *cli.Context, id string) (*wire.Leaks, map[string]leak.Course, error) {
	in, closeIn, err := openEvents(c.String("events"))
	if err != nil {
		return nil, nil, err
	}
	defer closeIn()
	read, err := replay.ReadLeaks(in)
	switch {
	case err != nil:
		return nil, nil, err
	case read.Last.IsZero() && read.Unreadable > 0:
		return nil, nil, fmt.Errorf("none of %d lines is an event", read.Unreadable)
	}
	doc := &wire.Leaks{Schema: wire.Schema, Leaks: read.List()}
	if id != "" {
		doc.Leaks = slices.DeleteFunc(doc.Leaks, func(l wire.Leak) bool { return l.ID != id })
		if len(doc.Leaks) == 0 {
			return nil, nil, fmt.Errorf("the events tell of no leak %q", id)
		}
	}
	return doc, read.Courses, nil
}

var leakID = regexp.MustCompile(`^L[0-9a-f]{12}$`)

func isLeakID(s string) bool { return leakID.MatchString(s) }

// leakFilter returns what leaves those in a document that the flags ask for.
func leakFilter(c *cli.Context) (func(*wire.Leaks, map[string]leak.Course, time.Time), error) {
	if by := c.String("by"); by != "" && !slices.Contains(leak.Keys, by) {
		return nil, usageError("--by %q%s: want %s", by, nearest.Hint(by, leak.Keys...), strings.Join(leak.Keys, ", "))
	}
	pick, err := newFilter(c)
	if err != nil {
		return nil, err
	}
	if err := checkTable(c, render.LeakColumns()); err != nil {
		return nil, err
	}
	if c.Int("n") < 0 {
		return nil, usageError("-n %d: want a number of 1 or more", c.Int("n"))
	}
	since, err := parseTime(c.String("since"))
	if err != nil {
		return nil, usageError("--since: %w", err)
	}
	until, err := parseTime(c.String("until"))
	if err != nil {
		return nil, usageError("--until: %w", err)
	}
	return func(doc *wire.Leaks, courses map[string]leak.Course, now time.Time) {
		switch {
		case !since.IsZero() || !until.IsZero():
			doc.Since, doc.Until = timeOrNil(since), timeOrNil(until)
			doc.Leaks = leak.Inside(doc.Leaks, courses, now, since, until)
		case c.String("events") == "":
			doc.Leaks = leak.Within(doc.Leaks, now.Add(-shownEnded), until)
		}
		doc.Leaks = slices.DeleteFunc(doc.Leaks, func(l wire.Leak) bool {
			return c.Bool("open") && l.State != wire.LeakStateOpen || !pick.leak(&l, now)
		})
		if n := c.Int("n"); n > 0 && len(doc.Leaks) > n {
			doc.Leaks = doc.Leaks[len(doc.Leaks)-n:]
		}
	}, nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// parseTime returns the time that an age before now, or a time, names; empty is none.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := quantity.ParseDuration(text); err == nil {
		return time.Now().Add(-age), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: want an age with a unit, as 90s, 1h or 7d, or a time as 2026-01-31T15:04:05Z", text)
	}
	return at, nil
}

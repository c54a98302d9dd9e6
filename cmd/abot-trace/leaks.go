// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/render"
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
had in all and held at most; where STATE has no room, PROC says ended. COST is memory over
time. With a range: those that were open in it at any time, and what they have cost inside
it, out of the history.

Examples:
   abot-trace leaks
   abot-trace leaks --open --user bob
   abot-trace leaks --sort memory -n 10
   abot-trace leaks --since 7d --by program
   abot-trace leaks --events recorded.ndjson --by program
   abot-trace leaks --at 03:00
   abot-trace leaks L0123456789ab
   abot-trace leaks ack F0123456789ab --for 7d --reason 'vendor ticket 1234'
   abot-trace leaks ignore L0123456789ab --reason 'the CI agent reuses them'
   abot-trace leaks --json | jq '.leaks[] | {id, name, processes, rss_bytes}'`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "open", Usage: "only leaks that have not ended"},
			&cli.StringFlag{Name: "since", Usage: "leaks that were open since `T`: an age as 1h or 7d, or a time as 2026-01-31T15:04 or 03:00"},
			&cli.StringFlag{Name: "until", Usage: "leaks that were open before `T`"},
			atFlag(), historyFlag(),
			&cli.StringFlag{Name: "by", Usage: "count and sum them by `KEY`: " + strings.Join(leak.Keys, ", ")},
			&cli.StringFlag{Name: "sort", Usage: "by `KEY`: age, cost, memory or user; the oldest and the largest come first; without it the oldest"},
			&cli.IntFlag{Name: "n", Usage: "at most `N` of them: the first with --sort, else the latest"},
			&cli.StringFlag{Name: "events", Usage: "those that the events of `FILE` tell of, NDJSON as events --json writes it; - is standard input"},
			jsonFlag(), colorFlag(), noPagerFlag(), socketFlag(),
		}, slices.Concat(tableFlags(render.LeakColumns()), filterFlags(), placeFlags())...),
		Subcommands: decideCommands(),
		Action:      paged(showLeaks),
	}
}

func showLeaks(c *cli.Context) error {
	within, pick, err := leakFilter(c)
	if err != nil {
		return err
	}
	order, err := leakOrder(c)
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
	doc, courses, now, err := gatherLeaks(ctx, c, id)
	if err != nil {
		return err
	}
	if id != "" && !c.Bool("json") {
		return render.Leak(c.App.Writer, &doc.Leaks[0], now, styleOf(c))
	}
	if id == "" {
		within(doc, courses, now)
		all := len(doc.Leaks)
		if err := pick.keepLeaks(ctx, doc, now); err != nil {
			return err
		}
		if len(doc.Leaks) == 0 && all > 0 && !c.Bool("json") {
			return pick.sayNoneMatch(c.App.Writer, "leak", all, openFlag(c)...)
		}
		doc.Leaks = chosenLeaks(doc.Leaks, order, c.Int("n"))
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

var leakID = regexp.MustCompile(`^L[0-9a-f]{12}$`)

func isLeakID(s string) bool { return leakID.MatchString(s) }

// openFlag is --open as it was typed.
func openFlag(c *cli.Context) []string {
	if c.Bool("open") {
		return []string{"--open"}
	}
	return nil
}

// keepLeaks leaves those in a document that pass, and with --open the open ones.
func (f *filter) keepLeaks(ctx context.Context, doc *wire.Leaks, now time.Time) error {
	if err := f.keepPlaced(ctx, doc); err != nil {
		return err
	}
	doc.Leaks = slices.DeleteFunc(doc.Leaks, func(l wire.Leak) bool {
		return f.command.Bool("open") && l.State != wire.LeakStateOpen || !f.leak(&l, now)
	})
	return nil
}

// leakFilter returns what leaves those in a document that were there at the times that the
// flags ask for, and the filter among the flags.
func leakFilter(c *cli.Context) (func(*wire.Leaks, map[string]leak.Course, time.Time), *filter, error) {
	if by := c.String("by"); by != "" && !slices.Contains(leak.Keys, by) {
		return nil, nil, usageError("--by %q%s: want %s", by, nearest.Hint(by, leak.Keys...), strings.Join(leak.Keys, ", "))
	}
	pick, err := newFilter(c)
	if err != nil {
		return nil, nil, err
	}
	if places := len(pick.cwds)+len(pick.ports) > 0; places && c.IsSet("events") {
		return nil, nil, usageError("leaks: directories and ports are not kept: --cwd and --port cannot stand beside --events")
	}
	if err := pick.askable(c); err != nil {
		return nil, nil, err
	}
	if err := checkTable(c, render.LeakColumns()); err != nil {
		return nil, nil, err
	}
	if c.Int("n") < 0 {
		return nil, nil, usageError("-n %d: want a number of 1 or more", c.Int("n"))
	}
	since, err := pastTime(c, "since")
	if err != nil {
		return nil, nil, err
	}
	until, err := pastTime(c, "until")
	if err != nil {
		return nil, nil, err
	}
	return func(doc *wire.Leaks, courses map[string]leak.Course, now time.Time) {
		switch {
		case !since.IsZero() || !until.IsZero():
			doc.Since, doc.Until = timeOrNil(since), timeOrNil(until)
			doc.Leaks = leak.Inside(doc.Leaks, courses, now, since, until)
		case c.String("events") == "" && (c.IsSet("at") || !c.IsSet("history")):
			doc.Leaks = leak.Within(doc.Leaks, now.Add(-shownEnded), until)
		}
	}, pick, nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

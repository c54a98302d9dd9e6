// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func orphansCommand() *cli.Command {
	return &cli.Command{
		Name:  "orphans",
		Usage: "list orphans: who left them, since when, the verdict, what they hold",
		Description: `Lists, and never kills, those of one leak below it: who left them, and how that one
ended. TREE and MEMORY (resident and swapped) count the orphan with its living descendants.

Examples:
   abot-trace orphans
   abot-trace orphans --verdict leaked --sort memory -n 10
   abot-trace orphans --unit 'web*.service' --min-age 1d --min-memory 500MB
   abot-trace orphans --columns pid,verdict,memory,leak
   abot-trace orphans --at 2h --verdict leaked
   abot-trace orphans --json | jq '.[] | {pid, verdict: .orphan.verdict}'`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "sort", Value: "age", Usage: "by `KEY`: age, memory, pid or user; the oldest and the largest come first"},
			&cli.IntFlag{Name: "n", Usage: "at most `N` of them, the first"},
			&cli.BoolFlag{Name: "watch", Usage: "draw one screen again every 2 s, until interrupted: what is not well, then the first orphans"},
			atFlag(), historyFlag(), jsonFlag(), colorFlag(), noPagerFlag(), socketFlag(), noDaemonFlag(),
		}, slices.Concat(tableFlags(render.OrphanColumns()), filterFlags(), placeFlags())...),
		Action: paged(showOrphans),
	}
}

// orphanOrders are the orders of --sort.
var orphanOrders = map[string]func(a, b *wire.Process) int{
	"age": func(a, b *wire.Process) int { return compareTimes(a.Orphan.Since, b.Orphan.Since) },
	"memory": func(a, b *wire.Process) int {
		return cmp.Compare(treeMemory(b), treeMemory(a))
	},
	"pid":  func(a, b *wire.Process) int { return cmp.Compare(a.PID, b.PID) },
	"user": func(a, b *wire.Process) int { return strings.Compare(a.User, b.User) },
}

func treeMemory(p *wire.Process) uint64 {
	if p.Orphan.Tree == nil {
		return 0
	}
	return sumOf(p.Orphan.Tree.RSSBytes, p.Orphan.Tree.SwapBytes)
}

// compareTimes has what is not known come first: it is older than everything that is.
func compareTimes(a, b *time.Time) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return a.Compare(*b)
}

func showOrphans(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	pick, err := newFilter(c)
	if err != nil {
		return err
	}
	order, err := chosenOrder(c, orphanOrders)
	if err != nil {
		return err
	}
	if err := checkTable(c, render.OrphanColumns()); err != nil {
		return err
	}
	if c.Int("n") < 0 {
		return usageError("-n %d: want a number of 1 or more", c.Int("n"))
	}
	ctx, stop := interruptible(c)
	defer stop()
	if c.Bool("watch") && asksPast(c) {
		return usageError("orphans: the past does not change: --watch cannot stand beside --at or --history")
	}
	if err := pick.askable(c); err != nil {
		return err
	}
	from, now, closer, err := openLooker(ctx, c, 0)
	if err != nil {
		return explained(err)
	}
	defer closer()
	draw := func() error {
		list, err := from.Orphans(ctx, pick.facts()...)
		if err != nil {
			return explained(err)
		}
		if c.Bool("watch") {
			now = time.Now()
		}
		all := len(list)
		list = slices.DeleteFunc(list, func(p wire.Process) bool {
			return !pick.process(&p, now)
		})
		if len(list) == 0 && all > 0 && !c.Bool("json") {
			return pick.sayNoneMatch(c.App.Writer, "orphan", all)
		}
		slices.SortStableFunc(list, func(a, b wire.Process) int { return order(&a, &b) })
		if n := c.Int("n"); n > 0 {
			list = list[:min(n, len(list))]
		}
		_, own := from.(*local)
		return printOrphans(c, list, now, own && !pick.active)
	}
	if !c.Bool("watch") {
		return draw()
	}
	return watch(ctx, c, func() error {
		if _, err := drawAlerts(ctx, c, from); err != nil {
			return explained(err)
		}
		return draw()
	})
}

// printOrphans prints the list; fresh says that it is that of a tracer which has only begun.
func printOrphans(c *cli.Context, list []wire.Process, now time.Time, fresh bool) error {
	if c.Bool("json") {
		if list == nil {
			list = []wire.Process{}
		}
		return writeJSON(c.App.Writer, list)
	}
	if fresh && len(list) == 0 {
		_, err := fmt.Fprintln(c.App.Writer, "No orphans were seen since tracing began, a moment ago; older ones are not known.")
		return err
	}
	return render.Orphans(c.App.Writer, list, now, styleOf(c))
}

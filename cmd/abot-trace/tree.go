// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/inspect"
	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/term"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func treeCommand() *cli.Command {
	return &cli.Command{
		Name:      "tree",
		Usage:     "show the process tree by original lineage",
		ArgsUsage: "[PID]",
		Description: `Draws who spawned whom, also where the kernel has forgotten it. Dead ancestors are
drawn as long as a living descendant needs them; orphans tell who left them, how that
one died, who adopted them, and the verdict.

With a PID only that process is drawn, with its ancestors and descendants; a dead one as
long as it is remembered. With filters those that pass are drawn, with their ancestors.
On a terminal equal leaves are one line, as "12 × nginx", with the pid and the age of the
oldest and the memory of all.
With --at the tree of that time is drawn, out of the history.

Examples:
   abot-trace tree
   abot-trace tree --orphans
   abot-trace tree --by-unit
   abot-trace tree --user www-data --min-memory 500MB
   abot-trace tree --port 8000
   abot-trace tree --cwd /srv/app
   abot-trace tree 4711 --kernel
   abot-trace tree --at 03:00
   abot-trace tree --json | jq '.processes[] | select(.orphan)'`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "kernel", Usage: "draw by kernel parent, as ps does"},
			&cli.BoolFlag{Name: "orphans", Usage: "only orphans, with who left them and what they made"},
			&cli.BoolFlag{Name: "kernel-threads", Usage: "draw each kernel thread"},
			&cli.BoolFlag{Name: "by-unit", Usage: "draw the processes of each systemd unit, or container, below its name"},
			&cli.StringFlag{Name: "fold", Value: term.Auto, Usage: "draw equal leaves as one line `WHEN`: auto (on a terminal), always or never"},
			&cli.BoolFlag{Name: "watch", Usage: "draw one screen again every 2 s, until interrupted: what is not well, then leaks and what is large"},
			atFlag(), historyFlag(), jsonFlag(), colorFlag(), noPagerFlag(), socketFlag(), noDaemonFlag(),
		}, append(filterFlags(), placeFlags()...)...),
		Action: paged(showTree),
	}
}

func showTree(c *cli.Context) error {
	opt, pick, err := treeOptions(c)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	if c.Bool("watch") && asksPast(c) {
		return usageError("tree: the past does not change: --watch cannot stand beside --at or --history")
	}
	if err := pick.askable(c); err != nil {
		return err
	}
	from, at, closer, err := openLooker(ctx, c, opt.Root)
	if err != nil {
		return explained(err)
	}
	defer closer()
	if opt.Wanted != nil && asksPast(c) {
		opt.Wanted = func(p *wire.Process) bool { return pick.process(p, at) }
	}
	if !c.Bool("watch") {
		return drawTree(ctx, c, from, opt, pick)
	}
	return watch(ctx, c, func() error {
		alerts, err := drawAlerts(ctx, c, from)
		if err != nil {
			return explained(err)
		}
		opt.Style = styleOf(c) // the terminal may have another size by now
		if rows := term.Height(c.App.Writer); rows > 0 {
			opt.Rows = max(rows-alerts-besideRows, 1)
		}
		return drawTree(ctx, c, from, opt, pick)
	})
}

// besideRows are the lines of a drawing at most that are no process: its head, two counts,
// and two of what is not complete.
const besideRows = 5

// treeOptions reads what is to be drawn, and by which filter.
func treeOptions(c *cli.Context) (opt render.TreeOptions, pick *filter, err error) {
	opt = render.TreeOptions{Style: styleOf(c), Kernel: c.Bool("kernel"), Orphans: c.Bool("orphans"),
		Threads: c.Bool("kernel-threads"), ByUnit: c.Bool("by-unit")}
	if opt.Root, err = pidArg(c); err != nil {
		return opt, nil, err
	}
	switch when := c.String("fold"); when {
	case term.Auto:
		opt.Fold = term.IsTerminal(c.App.Writer)
	case term.Always, term.Never:
		opt.Fold = when == term.Always
	default:
		return opt, nil, usageError("--fold %q%s: want auto, always or never", when, nearest.Hint(when, term.Auto, term.Always, term.Never))
	}
	if pick, err = newFilter(c); err == nil && pick.active {
		opt.Wanted = func(p *wire.Process) bool { return pick.process(p, time.Now()) }
	}
	return opt, pick, err
}

func drawTree(ctx context.Context, c *cli.Context, from looker, opt render.TreeOptions, pick *filter) error {
	if !c.Bool("json") && opt.Wanted == nil && !opt.ByUnit {
		err := from.DrawTree(ctx, c.App.Writer, opt)
		if opt.Root == 0 || !isUnknownProcess(err) {
			return explained(err)
		}
	}
	doc, err := from.Tree(ctx, pick.facts()...)
	if err != nil {
		return explained(err)
	}
	if opt.Root != 0 {
		if err := addRemembered(ctx, from, doc, opt.Root); err != nil {
			return explained(err)
		}
	}
	selected := render.Select(doc, opt)
	switch {
	case c.Bool("json"):
		doc.Processes = selected
		return writeJSON(c.App.Writer, doc)
	case len(selected) == 0 && opt.Wanted != nil && opt.Root == 0:
		return sayNoneDrawn(c, doc, &opt, pick)
	}
	return render.Tree(c.App.Writer, doc, opt)
}

// sayNoneDrawn says that no living process, or no orphan, passes the filter.
func sayNoneDrawn(c *cli.Context, doc *wire.Tree, opt *render.TreeOptions, pick *filter) error {
	all := 0
	for i := range doc.Processes {
		if p := &doc.Processes[i]; p.State != wire.StateDead && (p.Orphan != nil || !opt.Orphans) {
			all++
		}
	}
	if opt.Orphans {
		return pick.sayNoneMatch(c.App.Writer, "orphan", all)
	}
	return pick.sayNoneMatch(c.App.Writer, "process", all)
}

// addRemembered adds to the tree the process with that pid, and who spawned it up to
// somebody who is in the tree: those that no living process needs are remembered for a
// while, but are not in it.
func addRemembered(ctx context.Context, from looker, doc *wire.Tree, pid int32) error {
	if slices.ContainsFunc(doc.Processes, func(p wire.Process) bool { return p.PID == pid }) {
		return nil
	}
	p, err := from.Process(ctx, pid)
	if err != nil {
		return err
	}
	for {
		doc.Processes = append(doc.Processes, *p)
		by := p.SpawnedBy
		if by == nil || slices.ContainsFunc(doc.Processes, func(p wire.Process) bool { return p.PID == by.PID && p.StartNS == by.StartNS }) {
			return nil
		}
		// Of a pid that was used again only the last process is remembered.
		if p, err = from.Process(ctx, by.PID); err != nil || p.StartNS != by.StartNS {
			return nil
		}
	}
}

// isUnknownProcess reports whether nothing is known of the pid that was asked for.
func isUnknownProcess(err error) bool {
	var status *api.StatusError
	return errors.Is(err, render.ErrNoProcess) || errors.Is(err, inspect.ErrNoProcess) ||
		errors.As(err, &status) && status.Code == http.StatusNotFound
}

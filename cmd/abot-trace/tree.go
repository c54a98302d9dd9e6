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
	"github.com/abot-trace/abot-trace/internal/render"
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
long as it is remembered.

Examples:
   abot-trace tree
   abot-trace tree --orphans
   abot-trace tree 4711 --kernel
   abot-trace tree --json | jq '.processes[] | select(.orphan)'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "kernel", Usage: "draw by kernel parent, as ps does"},
			&cli.BoolFlag{Name: "orphans", Usage: "only orphans, with who left them and what they made"},
			&cli.BoolFlag{Name: "kernel-threads", Usage: "draw each kernel thread"},
			&cli.BoolFlag{Name: "watch", Usage: "draw again every 2 s, until interrupted"},
			jsonFlag(), colorFlag(), socketFlag(), noDaemonFlag(),
		},
		Action: showTree,
	}
}

// watchInterval is how often --watch draws again.
const watchInterval = 2 * time.Second

func showTree(c *cli.Context) error {
	pid, err := pidArg(c)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	from, closer, err := openInspector(ctx, c)
	if err != nil {
		return err
	}
	defer closer()
	draw := func() error { return drawTree(ctx, c, from, pid) }
	if c.Bool("watch") {
		return watch(ctx, c.App.Writer, watchInterval, draw)
	}
	return draw()
}

func drawTree(ctx context.Context, c *cli.Context, from inspector, pid int32) error {
	opt := render.TreeOptions{
		Style:   styleOf(c),
		Kernel:  c.Bool("kernel"),
		Orphans: c.Bool("orphans"),
		Root:    pid,
		Threads: c.Bool("kernel-threads"),
	}
	if !c.Bool("json") {
		err := from.DrawTree(ctx, c.App.Writer, opt)
		if pid == 0 || !isUnknownProcess(err) {
			return explained(err)
		}
	}
	doc, err := from.Tree(ctx)
	if err != nil {
		return explained(err)
	}
	if pid != 0 {
		if err := addRemembered(ctx, from, doc, pid); err != nil {
			return explained(err)
		}
	}
	if !c.Bool("json") {
		return render.Tree(c.App.Writer, doc, opt)
	}
	if pid != 0 || c.Bool("orphans") {
		doc.Processes = render.Select(doc, pid, c.Bool("orphans"), c.Bool("kernel"))
	}
	return writeJSON(c.App.Writer, doc)
}

// addRemembered adds to the tree the process with that pid, and who spawned it up to
// somebody who is in the tree: those that no living process needs are remembered for a
// while, but are not in it.
func addRemembered(ctx context.Context, from inspector, doc *wire.Tree, pid int32) error {
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

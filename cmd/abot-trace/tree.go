// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

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

With a PID only that process is drawn, with its ancestors and descendants.

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
			jsonFlag(), colorFlag(), socketFlag(),
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
	from, closer, err := inspect(ctx, c)
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
	if !c.Bool("json") {
		return explained(from.DrawTree(ctx, c.App.Writer, render.TreeOptions{
			Style:   styleOf(c),
			Kernel:  c.Bool("kernel"),
			Orphans: c.Bool("orphans"),
			Root:    pid,
			Threads: c.Bool("kernel-threads"),
		}))
	}
	doc, err := from.Tree(ctx)
	if err != nil {
		return explained(err)
	}
	if pid != 0 && !slices.ContainsFunc(doc.Processes, func(p wire.Process) bool { return p.PID == pid }) {
		return fmt.Errorf("no such process: %d", pid)
	}
	if pid != 0 || c.Bool("orphans") {
		doc.Processes = render.Select(doc, pid, c.Bool("orphans"), c.Bool("kernel"))
	}
	return writeJSON(c.App.Writer, doc)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say why a process is or is not an orphan, and what each rule makes of it",
		ArgsUsage: "PID|LEAK",
		Description: `Prints the verdict with its evidence, then each rule with why it applies or not and
when it would act. It never kills. Of a LEAK: who left what, what it holds and has cost,
and what keeps it from coming back.

With a daemon its rules are explained, or with --config, which takes root, those of
FILE. With --at the process is the one of that time; one that was gone by then is told as
of its end.

Examples:
   abot-trace explain 4711
   abot-trace explain L0123456789ab
   abot-trace explain 4711 --at 2026-01-31T03:00
   abot-trace explain 4711 --json | jq '.rules[] | select(.applies)'`,
		Flags:  []cli.Flag{configFlag(), atFlag(), historyFlag(), jsonFlag(), colorFlag(), noPagerFlag(), socketFlag(), noDaemonFlag()},
		Action: paged(showExplanation),
	}
}

func showExplanation(c *cli.Context) error {
	if id := c.Args().First(); isLeakID(id) {
		return explainLeak(c, id)
	}
	pid, err := pidArg(c)
	if err != nil {
		return err
	}
	if pid == 0 {
		return usageError("explain: want a PID")
	}
	ctx, stop := interruptible(c)
	defer stop()
	out, at, err := explain(ctx, c, pid)
	if isUnknownProcess(err) {
		return withHint(err, "abot-trace tree lists the processes that are known")
	}
	if err != nil {
		return explained(refusedConfig(err))
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, out)
	}
	return render.Explain(c.App.Writer, out, at, styleOf(c))
}

// explainLeak tells everything that is known of one leak.
func explainLeak(c *cli.Context, id string) error {
	ctx, stop := interruptible(c)
	defer stop()
	doc, _, now, err := gatherLeaks(ctx, c, id)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, &doc.Leaks[0])
	}
	return render.Leak(c.App.Writer, &doc.Leaks[0], now, styleOf(c))
}

// explain asks the daemon, or looks for itself, or in a history. It returns as of when.
func explain(ctx context.Context, c *cli.Context, pid int32) (*wire.Explain, time.Time, error) {
	at, err := pastTime(c, "at")
	if err != nil {
		return nil, at, err
	}
	if c.IsSet("history") {
		return explainIn(ctx, c, at, pid)
	}
	config, err := absoluteConfig(c)
	if err != nil {
		return nil, at, err
	}
	if !at.IsZero() {
		client, err := reachPast(ctx, c)
		if err != nil {
			return nil, at, err
		}
		remote := client.At(at)
		out, err := remote.Explain(ctx, pid, config)
		notePast(c, remote.Notes)
		return out, at, err
	}
	client, err := reach(ctx, c)
	if err != nil {
		return nil, at, err
	}
	if client != nil {
		out, err := client.Explain(ctx, pid, config)
		return out, time.Now(), err
	}
	own, closer, err := ownControl(ctx, c)
	if err != nil {
		return nil, at, err
	}
	defer closer()
	out, err := own.Explain(ctx, nil, pid)
	return out, time.Now(), err
}

// explainIn explains out of an archive, by the rules of --config alone.
func explainIn(ctx context.Context, c *cli.Context, at time.Time, pid int32) (*wire.Explain, time.Time, error) {
	a, err := openArchive(c)
	if err != nil {
		return nil, at, err
	}
	defer a.close()
	m, err := momentIn(ctx, a, at, pid)
	if err != nil {
		return nil, at, err
	}
	notePast(c, m.Notes)
	out, err := m.Explain(ctx, a, pid)
	if err != nil || !c.IsSet("config") {
		return out, m.Time, err
	}
	cfg, err := config.Load(c.String("config"), config.Options{})
	if err != nil {
		return nil, at, invalidConfig(err)
	}
	engine, err := cfg.Engine(false)
	if err != nil {
		return nil, at, err
	}
	tree, err := m.Tree(ctx)
	if err != nil {
		return nil, at, err
	}
	out.Rules = replay.Explain(tree, engine, &out.Process, m.BootNS())
	return out, m.Time, nil
}

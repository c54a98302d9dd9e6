// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/render"
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
FILE.

Examples:
   abot-trace explain 4711
   abot-trace explain L0123456789ab
   abot-trace explain 4711 --json | jq '.rules[] | select(.applies)'`,
		Flags: []cli.Flag{configFlag(), jsonFlag(), colorFlag(), socketFlag(), noDaemonFlag()},
		Action: func(c *cli.Context) error {
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
			out, err := explain(ctx, c, pid)
			if isUnknownProcess(err) {
				return withHint(err, "abot-trace tree lists the processes that are known")
			}
			if err != nil {
				return explained(refusedConfig(err))
			}
			if c.Bool("json") {
				return writeJSON(c.App.Writer, out)
			}
			return render.Explain(c.App.Writer, out, time.Now(), styleOf(c))
		},
	}
}

// explainLeak tells everything that is known of one leak.
func explainLeak(c *cli.Context, id string) error {
	ctx, stop := interruptible(c)
	defer stop()
	doc, err := askLeaks(ctx, c, id)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, &doc.Leaks[0])
	}
	return render.Leak(c.App.Writer, &doc.Leaks[0], time.Now(), styleOf(c))
}

// explain asks the daemon, or looks for itself.
func explain(ctx context.Context, c *cli.Context, pid int32) (*wire.Explain, error) {
	client, err := reach(ctx, c)
	if err != nil {
		return nil, err
	}
	if client != nil {
		config, err := absoluteConfig(c)
		if err != nil {
			return nil, err
		}
		return client.Explain(ctx, pid, config)
	}
	own, closer, err := ownControl(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closer()
	return own.Explain(ctx, nil, pid)
}

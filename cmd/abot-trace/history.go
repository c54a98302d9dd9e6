// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/render"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "show what is kept of the past: since when, how much, what was lost",
		Description: `Tells of the two parts that the daemon keeps: the stream, which is all that changed a
process, and what is notable, which people are told and which is kept longer. For each
since when, how much of what it may take, how fast it grows and when it is full at that
rate; then what was lost. The configuration (history:) has the bounds.

Examples:
   abot-trace history
   abot-trace history --json | jq '.stream.since'`,
		Flags:  []cli.Flag{jsonFlag(), colorFlag(), socketFlag()},
		Action: showHistory,
	}
}

func showHistory(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	s, err := askStatus(ctx, c)
	if err != nil {
		return explained(err)
	}
	if s.History == nil {
		return withHint(errors.New("the daemon keeps no history"),
			"the configuration says history: off, or the daemon has no state directory (--state); abot-trace status says more")
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, s.History)
	}
	return render.History(c.App.Writer, s.History, time.Now(), styleOf(c))
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/past"
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
   abot-trace history --json | jq '.stream.since'
   abot-trace history export --since 1h /var/tmp/incident.tar`,
		Flags:       []cli.Flag{jsonFlag(), colorFlag(), socketFlag()},
		Subcommands: []*cli.Command{exportHistoryCommand()},
		Action:      showHistory,
	}
}

func exportHistoryCommand() *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "cut out a range into a file, which every command that reads takes by --history",
		ArgsUsage: "FILE",
		Description: `Writes what is kept of the range, with the tree as it was at its beginning, into FILE, a
tar archive. On any machine, without root, commands read it by --history. Command lines are
without likely secrets.

Examples:
   abot-trace history export --since 1h /var/tmp/incident.tar
   abot-trace history export --since 03:00 --until 03:30 /var/tmp/incident.tar`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "from `T` on: an age as 2h, or a time as 2026-01-31T15:04 or 03:00"},
			&cli.StringFlag{Name: "until", Usage: "until `T`"},
			historyFlag(), socketFlag(),
		},
		Action: exportHistory,
	}
}

func exportHistory(c *cli.Context) error {
	if c.NArg() != 1 {
		return usageError("history export: want one FILE, got %d arguments", c.NArg())
	}
	var q past.Query
	var err error
	if q.From, err = pastTime(c, "since"); err != nil {
		return err
	}
	if q.To, err = pastTime(c, "until"); err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	file := c.Args().First()
	out, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	err = exportTo(ctx, c, &q, out)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), file)
	}
	if err != nil {
		_ = os.Remove(out.Name())
	}
	return explained(err)
}

// exportTo writes the range out of the daemon, or of an archive.
func exportTo(ctx context.Context, c *cli.Context, q *past.Query, out io.Writer) error {
	if !c.IsSet("history") {
		client, err := reachPast(ctx, c)
		if err != nil {
			return err
		}
		return client.Export(ctx, q.From, q.To, out)
	}
	a, err := openArchive(c)
	if err != nil {
		return err
	}
	defer a.close()
	missed, err := past.Export(ctx, a, q.From, q.To, out)
	if missed > 0 {
		notePast(c, []string{fmt.Sprintf("%d entries could not be read", missed)})
	}
	return err
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

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show on one screen whether all is well, what is armed, and what is going on",
		Description: `Tells of the daemon, its stream of events, the rules that are armed and those that only
observe, the stop file, open leaks, notices and the last kill, and what to do about what
is not well. Exits 0 where all is well, 1 where there is a problem, 3 where no daemon
answers.

Examples:
   abot-trace status
   abot-trace status --json | jq '.problems'`,
		Flags:  []cli.Flag{jsonFlag(), colorFlag(), socketFlag()},
		Action: showStatus,
	}
}

func showStatus(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	s, err := askStatus(ctx, c)
	if err != nil {
		return &exitError{exitUnknown, explained(err)}
	}
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, s)
	} else {
		err = render.Status(c.App.Writer, s, time.Now(), styleOf(c))
	}
	if err == nil && s.State != wire.StatusWell {
		return &exitError{code: exitFailed}
	}
	return err
}

// askStatus asks the daemon, of which nobody else knows how it is.
func askStatus(ctx context.Context, c *cli.Context) (*wire.Status, error) {
	client, err := reach(ctx, c)
	if err != nil {
		return nil, err
	}
	if client == nil {
		return nil, withHint(errors.New("no daemon runs here"), "abot-trace doctor says what this host can do")
	}
	doc, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	if doc.Schema == 0 {
		return nil, withHint(errors.New("the daemon is of an older version, which has no status"), "restart it: systemctl restart abot-trace")
	}
	return &doc.Status, nil
}

// stopFileOf is the daemon's word on its stop file; false where none answers or none is
// configured.
func stopFileOf(ctx context.Context, client *api.Client) (wire.Stop, bool, error) {
	doc, err := client.Status(ctx)
	if errors.Is(err, api.ErrNoDaemon) {
		return wire.Stop{}, false, nil
	}
	if err != nil || doc.StopFile == nil {
		return wire.Stop{}, false, err
	}
	return *doc.StopFile, true, nil
}

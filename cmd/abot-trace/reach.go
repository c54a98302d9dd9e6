// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/systemd"
)

// unitName is the service of the packages.
const unitName = "abot-trace.service"

func noDaemonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-daemon", Usage: "do not ask a daemon: trace by itself, without knowledge of the past"}
}

// reach returns the daemon behind the socket. It returns nil, which means to trace
// by ourselves, with --no-daemon, and where no daemon is expected. Where one is and does
// not answer that is an error: an empty list means that the daemon said so.
func reach(ctx context.Context, c *cli.Context) (*api.Client, error) {
	if c.Bool("no-daemon") {
		return nil, nil
	}
	client := api.NewClient(c.String("socket"))
	err := client.Reach(ctx)
	if err == nil {
		return client, nil
	}
	if !errors.Is(err, api.ErrNoDaemon) {
		return nil, err
	}
	if missed := missedDaemon(c, err); missed != nil {
		return nil, missed
	}
	return nil, nil
}

// reachPast returns the daemon, which alone knows the past.
func reachPast(ctx context.Context, c *cli.Context) (*api.Client, error) {
	if c.Bool("no-daemon") {
		return nil, usageError("%s: without a daemon there is no past: --no-daemon cannot stand beside it", c.Command.Name)
	}
	client, err := reach(ctx, c)
	if err != nil {
		return nil, explained(err)
	}
	if client == nil {
		return nil, withHint(errors.New("no daemon runs here, and without one there is no past"), "--history reads an export or the directory of a history")
	}
	return client, nil
}

// noteNoDaemon says that the program traces by itself although nobody asked for that.
func noteNoDaemon(c *cli.Context) {
	if !c.Bool("no-daemon") {
		fmt.Fprintln(c.App.ErrWriter, "No daemon runs here: tracing begins now, and nothing is known of the past.")
	}
}

// missedDaemon returns an error where a daemon is expected: its socket was named, or is
// there, or its unit is enabled.
func missedDaemon(c *cli.Context, err error) error {
	socket := c.String("socket")
	if c.IsSet("socket") {
		return withHint(err, "start one with: sudo abot-trace daemon --socket %s", socket)
	}
	if _, statErr := os.Lstat(socket); statErr == nil {
		return withHint(fmt.Errorf("%w: its socket is there, but it does not run", err),
			"journalctl -u abot-trace says why it ended%s", orWithout(c))
	}
	if systemd.Enabled("", unitName) {
		return withHint(fmt.Errorf("%w: %s is enabled, but does not run", err, unitName),
			"start it: sudo systemctl start abot-trace%s", orWithout(c))
	}
	return nil
}

// orWithout ends a hint with the flag that does without a daemon, where the command has it.
func orWithout(c *cli.Context) string {
	for _, f := range c.Command.Flags {
		if slices.Contains(f.Names(), "no-daemon") {
			return "; --no-daemon works without it"
		}
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/systemd"
)

// unitName is the service of the packages.
const unitName = "abot-trace.service"

func noDaemonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-daemon", Usage: "ask no daemon: take a look of our own, which knows nothing from before"}
}

// reach returns the daemon behind the socket. It returns nil, which asks for a look of our
// own, with --no-daemon, and where no daemon is expected. Where one is expected and does
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

// sayOwnLook tells of a look of our own that nobody asked for.
func sayOwnLook(c *cli.Context) {
	if !c.Bool("no-daemon") {
		fmt.Fprintln(c.App.ErrWriter, "No daemon runs here: this look begins now, and nothing is known of what was before.")
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
			"journalctl -u abot-trace says why it ended; --no-daemon takes a look without it")
	}
	if systemd.Enabled("", unitName) {
		return withHint(fmt.Errorf("%w: %s is enabled, but does not run", err, unitName),
			"start it: sudo systemctl start abot-trace; --no-daemon takes a look without it")
	}
	return nil
}

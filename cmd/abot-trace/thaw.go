// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/daemon"
	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

func thawCommand() *cli.Command {
	return &cli.Command{
		Name:  "thaw",
		Usage: "resume processes that a killed daemon left stopped",
		Description: `A rule that ends a tree stops it first, for a moment, so that no process of it can react
to the end of another. A daemon that is killed at that very moment leaves them stopped.
The next daemon lets them continue, and so does this: the service runs it whenever it
has ended. While a daemon runs it is refused.

Examples:
   sudo abot-trace thaw
   sudo abot-trace thaw --socket /run/test/abot.sock`,
		Flags: []cli.Flag{socketFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			n, err := daemon.Thaw(c.String("socket"))
			if n > 0 {
				fmt.Fprintf(c.App.Writer, "%d processes continue\n", n)
			}
			var busy *dirlock.BusyError
			if errors.As(err, &busy) {
				return withHint(err, "a daemon runs: it needs no help")
			}
			var refused *rootfile.UntrustedError
			if errors.As(err, &refused) {
				return withHint(err, "what another user could have written sends no signals as root; "+
					"the service thaws by itself: systemctl restart abot-trace")
			}
			return explained(err)
		},
	}
}

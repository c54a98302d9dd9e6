// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/supervise"
)

const leaseHelp = `The process that runs this command, usually a shell or a script, becomes the holder:
when it dies, however it dies, the daemon ends whatever is left of its descendants,
with the grace between TERM and KILL. The lease ends with its holder, and reaches
only processes that the holder's user could signal.

A process with ABOT_TRACE_KEEP=1 in its environment is spared.

Examples:
   abot-trace lease && ./start-workers      # in a script
   abot-trace lease --grace 30s`

func leaseCommand() *cli.Command {
	return &cli.Command{
		Name:            "lease",
		Usage:           "have the daemon end the caller's descendants when the caller dies",
		Description:     leaseHelp,
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "grace", Value: "10s", Usage: "`TIME` between TERM and KILL"},
			socketFlag(), jsonFlag(),
		},
		Action: runLease,
	}
}

func runLease(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError("lease: unexpected argument %q", c.Args().First())
	}
	grace, err := supervise.ParseDuration(c.String("grace"))
	if err != nil {
		return usageError("lease: --grace: %w", err)
	}
	holder := os.Getppid()
	if holder <= 1 {
		return errors.New("lease: the caller is pid 1 or outside this pid namespace, and cannot hold a lease")
	}
	client, err := supervise.Dial(c.String("socket"), true)
	if err != nil {
		return withHint(fmt.Errorf("lease: %w", err), "is the daemon running? try: systemctl status abot-trace")
	}
	client.Warn = func(text string) { fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", printable(text)) }
	id, err := client.LeaseForCaller(context.Background(), grace)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(map[string]any{"lease_id": id, "holder": map[string]int{"pid": holder}})
	}
	_, err = fmt.Fprintf(c.App.Writer, "lease %s held by process %d\n", id, holder)
	return err
}

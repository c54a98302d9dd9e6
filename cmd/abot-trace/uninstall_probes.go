// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/state"
)

const defaultState = "/var/lib/abot-trace"

// keptFlags name the places where the daemon keeps what outlives it.
func keptFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "state", Value: defaultState, EnvVars: []string{"STATE_DIRECTORY"},
			Usage: "`DIR` of the saved state"},
		&cli.StringFlag{Name: "pins", Value: probe.DefaultPins,
			Usage: "`DIR` of a BPF file system that keeps the programs attached where no service manager does"},
	}
}

// keptPath returns the path that the flag gives. The defaults are the default daemon's:
// one at another socket keeps nothing unless it is told where.
func keptPath(c *cli.Context, flag string) string {
	if !c.IsSet(flag) && c.String("socket") != api.DefaultSocket {
		return ""
	}
	return c.String(flag)
}

func uninstallProbesCommand() *cli.Command {
	return &cli.Command{
		Name:  "uninstall-probes",
		Usage: "detach the programs that a daemon has left attached, and forget its state",
		Description: `The programs of a daemon stay attached when it ends, so that the next one misses
nothing. This ends them, for good: pins, what the service manager keeps for the calling
service, and the saved state. While a daemon runs it is refused.

Examples:
   sudo systemctl stop abot-trace && sudo abot-trace uninstall-probes
   sudo abot-trace uninstall-probes --pins /run/test/bpf/pins --state /run/test/state`,
		Flags: keptFlags(),
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			err := errors.Join(
				forgetDescriptors(c.App.Writer),
				forgetPins(c.App.Writer, c.String("pins")),
				forgetState(c.App.Writer, c.String("state")),
			)
			var busy *dirlock.BusyError
			if errors.As(err, &busy) {
				return withHint(err, "stop the daemon first: systemctl stop abot-trace, or kill %d", busy.PID)
			}
			return forRoot(err)
		},
	}
}

// forRoot adds who may do it to an error that others get.
func forRoot(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return withHint(err, "run it as root")
	}
	return err
}

// forgetDescriptors empties the service manager's store, when this runs in the service.
func forgetDescriptors(out io.Writer) error {
	store, err := probe.NewFDStore()
	if errors.Is(err, probe.ErrNoManager) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := probe.Forget(store)
	if n > 0 {
		fmt.Fprintf(out, "%d descriptors forgotten by the service manager\n", n)
	}
	return errors.Join(err, store.Close())
}

func forgetPins(out io.Writer, dir string) error {
	if missing(dir) {
		return nil
	}
	store, err := probe.NewPinStore(dir)
	if err != nil {
		return err
	}
	n, err := probe.Forget(store)
	if n > 0 {
		fmt.Fprintf(out, "%d pins removed from %s\n", n, dir)
	}
	return errors.Join(err, store.Close())
}

func forgetState(out io.Writer, path string) error {
	if missing(path) {
		return nil
	}
	n, err := state.Forget(path)
	if n > 0 {
		fmt.Fprintf(out, "the saved state removed from %s\n", path)
	}
	return err
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/daemon"
	"github.com/abot-trace/abot-trace/internal/linequeue"
	"github.com/abot-trace/abot-trace/internal/probe"
)

// socketVariable names the daemon's socket where no flag does.
const socketVariable = "ABOT_TRACE_SOCKET"

func socketFlag() cli.Flag {
	return &cli.StringFlag{Name: "socket", Value: api.DefaultSocket, Usage: "unix `SOCKET` of the daemon",
		EnvVars: []string{socketVariable}}
}

// flushTimeout is how long the last lines may take to be read.
const flushTimeout = 2 * time.Second

func daemonCommand() *cli.Command {
	return &cli.Command{
		Name:  "daemon",
		Usage: "trace, judge, enforce, alert, and serve the socket",
		Description: `Runs until SIGTERM; SIGHUP loads the configuration anew. It needs root, or CAP_BPF and
CAP_PERFMON to trace and CAP_KILL to end what rules say. Without a configuration file
it watches and ends nothing. What it has learned, and the programs in the kernel, outlive
it: the next daemon goes on where it stopped. A daemon at another socket than the default
one keeps nothing unless --state and --pins say where. See uninstall-probes.

Examples:
   sudo abot-trace daemon
   sudo abot-trace daemon --config ./config.yaml --socket /run/test/abot.sock`,
		Flags: append([]cli.Flag{
			configFlag(), socketFlag(),
			&cli.StringFlag{Name: "group", Usage: "`GROUP` that may ask the daemon, beside root"},
		}, keptFlags()...),
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			// Before the socket, whose directory an ordinary user cannot make either.
			if err := probe.Check(); err != nil {
				return explained(err)
			}
			ctx, stop := signal.NotifyContext(c.Context, unix.SIGTERM, os.Interrupt)
			defer stop()
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, unix.SIGHUP)
			defer signal.Stop(reload)
			// Nobody may read them, and the tracer's loop writes some. Who has read them may
			// be gone; caught and not ignored: what is ignored, the helper inherits.
			signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
			lines := linequeue.New(c.App.ErrWriter)
			defer lines.Close(flushTimeout)
			log := slog.New(slog.NewTextHandler(lines, nil))
			return explained(daemon.Run(ctx, daemon.Settings{
				Config: configPath(c), Socket: c.String("socket"), Group: c.String("group"),
				Version: buildVersion(), Log: log, Reload: reload,
				State: keptPath(c, "state"), Pins: keptPath(c, "pins"),
			}))
		},
	}
}

// configPath is the path that --config gives, empty without the flag: then the default
// one may be missing.
func configPath(c *cli.Context) string {
	if !c.IsSet("config") {
		return ""
	}
	return c.String("config")
}

// noArgs refuses arguments that mean nothing.
func noArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return usageError("%s: unexpected argument %q", c.Command.Name, c.Args().First())
	}
	return nil
}

// explained adds what to try to an error of tracing or of the socket.
func explained(err error) error {
	var status *api.StatusError
	var invalid config.Errors
	var refused *daemon.ConfigError
	var silent *api.UnansweredError
	switch hint := probe.Hint(err); {
	case err == nil:
		return nil
	case errors.As(err, &silent):
		return withHint(err, "it was stopped or hangs: abot-trace doctor says more, systemctl restart abot-trace begins anew")
	case errors.As(err, &invalid), errors.As(err, &refused):
		return &exitError{exitUsage, err}
	case hint != "":
		return withHint(err, "%s", hint)
	case errors.As(err, &status) && status.Code == 403, errors.Is(err, os.ErrPermission):
		return withHint(err, "run it as root, or become a member of the group that may ask the daemon (socket.group)")
	default:
		return err
	}
}

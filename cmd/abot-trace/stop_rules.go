// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/safetext"
)

func stopRulesCommand() *cli.Command {
	return &cli.Command{
		Name:  "stop-rules",
		Usage: "call off all kills of rules and leases, until start-rules",
		Description: `Makes the stop file, with the reason in it. From then on no rule and no lease ends
anything; kills that are under way send no more signals. What is seen is told as ever.
It works without a daemon, too: the next one finds the file. Where the file is, the
configuration says, not the daemon: --config names the one of another daemon.

Examples:
   sudo abot-trace stop-rules --reason "release of Friday"
   sudo abot-trace start-rules`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "say why: `TEXT` of one line, shown by status, explain, doctor and the notice"},
			configFlag(), socketFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return forRoot(stopRules(c))
		},
	}
}

func startRulesCommand() *cli.Command {
	return &cli.Command{
		Name:  "start-rules",
		Usage: "let rules and leases end processes again: take stop-rules back",
		Description: `Removes the stop file. Rules look at everything again with the next sample; what held
meanwhile counts.

Examples:
   sudo abot-trace start-rules`,
		Flags: []cli.Flag{configFlag(), socketFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return forRoot(startRules(c))
		},
	}
}

// maxReason is how much of a reason the daemon reads.
const maxReason = 512

func stopRules(c *cli.Context) error {
	reason := cmp.Or(c.String("reason"), "stopped by hand")
	if user := os.Getenv("SUDO_USER"); user != "" && user != "root" {
		reason += " (" + user + ")"
	}
	if strings.ContainsAny(reason, "\n\r") || len(reason) > maxReason {
		return usageError("--reason: want one line of at most %d bytes", maxReason)
	}
	ctx, stop := interruptible(c)
	defer stop()
	path, err := stopFilePath(ctx, c)
	if err != nil {
		return err
	}
	dir, err := rootfile.Own.ForeignDir(filepath.Dir(path), 0o755)
	if err != nil {
		return stopFileError(err)
	}
	defer dir.Close()
	f, err := dir.Create(filepath.Base(path), 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintf(c.App.Writer, "The rules are stopped already: %s is there.\n", safetext.Terminal(path))
		return nil
	case err != nil:
		return stopFileError(err)
	}
	_, err = f.WriteString(reason + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return stopFileError(err)
	}
	return toldOfStop(ctx, c, path, true)
}

func startRules(c *cli.Context) error {
	ctx, stop := interruptible(c)
	defer stop()
	path, err := stopFilePath(ctx, c)
	if err != nil {
		return err
	}
	switch err := removeStopFile(path); {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(c.App.Writer, "The rules are not stopped: there is no %s.\n", safetext.Terminal(path))
		return nil
	case err != nil:
		return stopFileError(err)
	}
	return toldOfStop(ctx, c, path, false)
}

func removeStopFile(path string) error {
	dir, err := rootfile.Own.ForeignDir(filepath.Dir(path), 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Remove(filepath.Base(path))
}

func stopFileError(err error) error { return fmt.Errorf("stop file: %w", err) }

// stopFilePath is what the configuration says. The daemon's answer is compared and no more:
// it may run as another user, who could have root write and remove what he names. Where the
// two differ nothing is done: the configuration could be that of another daemon.
func stopFilePath(ctx context.Context, c *cli.Context) (string, error) {
	cfg, err := loadConfig(c, config.Options{Trusted: os.Geteuid() == 0})
	if err != nil {
		return "", err
	}
	path := cfg.BudgetSpec().StopFile
	if path == "" {
		return "", errors.New("no stop file is configured: budget.stop_file")
	}
	stop, known, err := stopFileOf(ctx, api.NewClient(c.String("socket")))
	switch {
	case err != nil: // it hangs, or does not tell us: the file is there for that
		fmt.Fprintf(c.App.ErrWriter, "abot-trace: the daemon does not say which its stop file is: %s\n", safetext.Terminal(err.Error()))
	case known && stop.Path != path:
		return "", withHint(fmt.Errorf("the daemon's stop file is %s, that of %s is %s", safetext.Terminal(stop.Path), c.String("config"), path),
			"--config names the daemon's configuration; where it has changed since, reload the daemon")
	}
	return path, nil
}

// toldOfStop says what has been done, and whether the daemon sees it. To ask makes it tell
// others.
func toldOfStop(ctx context.Context, c *cli.Context, path string, in bool) error {
	word := "The rules are stopped: nothing is ended while %s exists.\n"
	if !in {
		word = "The rules act again: %s is gone.\n"
	}
	fmt.Fprintf(c.App.Writer, word, safetext.Terminal(path))
	stop, known, err := stopFileOf(ctx, api.NewClient(c.String("socket")))
	switch {
	case err != nil:
		return fmt.Errorf("whether the daemon sees it is not known: %w", err)
	case !known:
		fmt.Fprintln(c.App.Writer, "No daemon runs; the next one sees it.")
	case stop.Path != path || stop.InForce != in:
		return fmt.Errorf("the daemon does not see it: it looks for %s", safetext.Terminal(stop.Path))
	}
	return nil
}

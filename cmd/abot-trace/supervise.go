// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/supervise"
)

// stageName is the hidden command that supervise runs in the child before CMD.
const stageName = "supervise-stage"

const superviseHelp = `CMD runs in a process group of its own, below this process as a child subreaper.
When CMD ends, or TERM, INT, HUP or QUIT comes, the before-term hooks run; then
CMD gets the signal that came and every other descendant TERM, at once or, with
--first main, when CMD has ended; what is left after the grace is killed until
nothing is. The on-exit hooks always run last. A second TERM or INT shortens the
grace to nothing. USR1, USR2, WINCH, CONT and TSTP are passed on.

The exit code is CMD's, or 128 + the signal that ended it; 125 if supervise itself
failed, 126 if CMD cannot be executed, 127 if it is not found; 124 if --timeout is
over, and with --fail-on-leak 123 if CMD leaves with 0 and something behind. Left
behind is what lives 200 ms after CMD has ended by itself and is not spared.

Hooks are split by shell quoting and run without a shell. They find in their
environment ABOT_TRACE_HOOK, ABOT_TRACE_PID (CMD's), ABOT_TRACE_SIGNAL if one asked
for the end and, once CMD has ended, ABOT_TRACE_EXIT_CODE.

A process with ABOT_TRACE_KEEP=1 in its environment, or whose command line a --keep
expression (RE2) matches, is spared with its descendants, and reported.

Limits: nofile and nproc take a count, as and core a size (512MiB), cpu a time
(1h); each also SOFT:HARD and "unlimited".

With the daemon on its socket the tree is leased to it: should this process be
killed by SIGKILL, the daemon ends the tree. Without a daemon nothing can.
When it ends in order it gives the lease back, and names whom it leaves.

Examples:
   abot-trace supervise -- gunicorn app:wsgi
   abot-trace supervise --grace 30s --first main --on-exit 'rm -rf /tmp/job' -- ./job
   abot-trace supervise --limit nofile=4096,core=0 --keep '^redis-server' -- ./run-tests`

func superviseCommand() *cli.Command {
	return &cli.Command{
		Name:            "supervise",
		Usage:           "run CMD and leave none of its descendants behind",
		ArgsUsage:       "-- CMD [ARG...]",
		Description:     superviseHelp,
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "grace", Value: "10s", Usage: "`TIME` between TERM and KILL"},
			&cli.StringSliceFlag{Name: "before-term", Usage: "run `CMD` before the tree is signalled (repeatable)"},
			&cli.StringSliceFlag{Name: "on-exit", Usage: "run `CMD` when the tree is gone (repeatable)"},
			&cli.StringFlag{Name: "hook-timeout", Value: "10s", Usage: "longest `TIME` for one hook"},
			&cli.StringFlag{Name: "first", Value: "all", Usage: "who is signalled first: main or all"},
			&cli.StringSliceFlag{Name: "keep", Usage: "spare processes whose command line matches `RE2` (repeatable)"},
			&cli.BoolFlag{Name: "cgroup", Usage: "hold the tree in a cgroup v2 of its own, too"},
			&cli.StringSliceFlag{Name: "limit", Usage: "resource limit `NAME=VALUE` for CMD: as, core, cpu, nofile, nproc (repeatable)"},
			&cli.StringFlag{Name: "timeout", Usage: "end CMD after `TIME`: exit code 124"},
			&cli.BoolFlag{Name: "fail-on-leak", Usage: "exit code 123 where CMD leaves with 0 and something behind"},
			&cli.StringFlag{Name: "summary", Usage: "write what was left behind to `FILE` as JSON"},
			&cli.BoolFlag{Name: "verbose", Usage: "say on standard error what was left behind"},
			&cli.BoolFlag{Name: "report-only", Usage: "end nothing but CMD; say what would have been ended"},
			&cli.StringFlag{Name: "socket", Value: api.DefaultSocket, EnvVars: []string{socketVariable},
				Usage: "unix `SOCKET` of the daemon, which then must answer"},
		},
		Action: runSupervise,
	}
}

// stageCommand is how supervise comes back to itself in the child.
func stageCommand() *cli.Command {
	return &cli.Command{
		Name: stageName, Hidden: true, SkipFlagParsing: true, HideHelp: true,
		Action: func(c *cli.Context) error {
			code, err := supervise.ExecStage(c.Args().Slice())
			return &exitError{code, superviseError(err)}
		},
	}
}

// superviseError is a failure of supervise itself: exit 125.
func superviseError(err error) error {
	return &exitError{supervise.ExitFailed, fmt.Errorf("supervise: %w", err)}
}

func runSupervise(c *cli.Context) error {
	cfg, err := superviseConfig(c)
	if err != nil {
		return superviseError(&commandLineError{err: err})
	}
	if err := leaseFrom(c.String("socket"), c.IsSet("socket"), &cfg); err != nil {
		return superviseError(err)
	}
	if name := c.String("summary"); name != "" {
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return superviseError(fmt.Errorf("--summary: %w", err))
		}
		defer file.Close()
		cfg.Summary = file
	}
	code, err := supervise.Run(cfg)
	if err != nil {
		err = fmt.Errorf("supervise: %w", err)
	}
	if code == 0 {
		return nil
	}
	return &exitError{code, err}
}

func superviseConfig(c *cli.Context) (cfg supervise.Config, err error) {
	if c.NArg() == 0 {
		return cfg, errors.New("no command given: want supervise [flags] -- CMD [ARG...]")
	}
	cfg = supervise.Config{
		Argv:       c.Args().Slice(),
		First:      supervise.First(c.String("first")),
		Cgroup:     c.Bool("cgroup"),
		ReportOnly: c.Bool("report-only"),
		FailOnLeak: c.Bool("fail-on-leak"),
		Verbose:    c.Bool("verbose"),
		Stage:      []string{"abot-trace", stageName},
		Report: func(format string, args ...any) {
			fmt.Fprintf(c.App.ErrWriter, "abot-trace: supervise: "+format+"\n", args...)
		},
	}
	if cfg.First != supervise.FirstAll && cfg.First != supervise.FirstMain {
		return cfg, fmt.Errorf("--first: %q is neither main nor all", cfg.First)
	}
	for flag, d := range map[string]*time.Duration{"grace": &cfg.Grace, "hook-timeout": &cfg.HookTimeout} {
		if *d, err = supervise.ParseDuration(c.String(flag)); err != nil {
			return cfg, fmt.Errorf("--%s: %w", flag, err)
		}
	}
	if c.IsSet("timeout") {
		if cfg.Timeout, err = supervise.ParseDuration(c.String("timeout")); err != nil {
			return cfg, fmt.Errorf("--timeout: %w", err)
		}
	}
	if cfg.BeforeTerm, err = splitHooks(c, "before-term"); err != nil {
		return cfg, err
	}
	if cfg.OnExit, err = splitHooks(c, "on-exit"); err != nil {
		return cfg, err
	}
	for _, s := range c.StringSlice("keep") {
		re, err := regexp.Compile(s)
		if err != nil {
			return cfg, fmt.Errorf("--keep: %w", err)
		}
		cfg.Keep = append(cfg.Keep, re)
	}
	for _, s := range c.StringSlice("limit") {
		limits, err := supervise.ParseLimits(s)
		if err != nil {
			return cfg, fmt.Errorf("--limit: %w", err)
		}
		cfg.Limits = append(cfg.Limits, limits...)
	}
	return cfg, nil
}

// leaseFrom has the tree leased to the daemon on the socket. Unless one is required, CMD runs
// without where there is none; where a socket says that there should be one, that is told.
func leaseFrom(socket string, required bool, cfg *supervise.Config) error {
	client, err := supervise.Dial(socket, required)
	if !required && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrPermission)) {
		cfg.Report("no lease, for no daemon can be asked: %v", err)
		return nil
	}
	if client != nil {
		client.Warn = func(text string) { cfg.Report("%s", text) }
		cfg.Leaser, cfg.LeaseRequired = client, required
	}
	return err
}

func splitHooks(c *cli.Context, flag string) (hooks [][]string, err error) {
	for _, s := range c.StringSlice(flag) {
		argv, err := supervise.SplitCommand(s)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		hooks = append(hooks, argv)
	}
	return hooks, nil
}

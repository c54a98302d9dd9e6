// SPDX-License-Identifier: Apache-2.0

// Command abot-trace keeps the process tree with its original lineage, says which
// processes were orphaned, by whom and why, and ends leaked trees safely.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
)

// Exit codes that hold for every command; monitor and supervise add their own.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// An exitError ends the program with a code. Its err may be nil, where the code
// says it all (a monitor that found a warning, a supervised command's own code).
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// hintError adds what to try to an error meant for people.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// withHint returns err with a line that says what to try.
func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
}

// run is the program but for os.Exit: the one place where an error becomes a
// message and a code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err == nil {
		return exitOK
	}
	command := commandOf(app, args)
	code := exitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
		if other, ok := usageCodes[command]; ok && code == exitUsage && exit.err != nil {
			code = other
		}
		if exit.err == nil {
			return code
		}
	}
	printError(stderr, err, command)
	return code
}

// newApp returns the command line.
func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:                   "abot-trace",
		Usage:                  "see, judge and end leaked process trees",
		Writer:                 stdout,
		ErrWriter:              stderr,
		HideVersion:            true,
		UseShortOptionHandling: true,
		// Values with commas (globs, expressions) stay whole.
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		Flags:                     []cli.Flag{cli.HelpFlag, versionFlag()},
		Commands:                  grouped(commands()),
	}
	reportUsage(app)
	return app
}

// groups are the headings of the help, which sorts them by name.
var groups = map[string][]string{
	"See":              {"status", "tree", "events", "orphans", "leaks", "explain", "monitor", "history"},
	"End":              {"kill", "arm", "disarm", "cleanup", "stop-rules", "start-rules"},
	"Run and hold":     {"supervise", "lease"},
	"Set up and check": {"check", "replay", "doctor", "notify-test", "version", "completion", "help"},
	"Service":          {"daemon", "thaw", "uninstall-probes"},
}

// grouped puts each command under its heading.
func grouped(list []*cli.Command) []*cli.Command {
	for _, c := range list {
		for heading, names := range groups {
			if slices.Contains(names, c.Name) {
				c.Category = heading
			}
		}
	}
	return list
}

// commands lists every command; each lives in the file of its name.
func commands() []*cli.Command {
	return []*cli.Command{
		daemonCommand(),
		statusCommand(),
		historyCommand(),
		treeCommand(),
		eventsCommand(),
		orphansCommand(),
		leaksCommand(),
		explainCommand(),
		killCommand(),
		armCommand(),
		disarmCommand(),
		cleanupCommand(),
		stopRulesCommand(),
		startRulesCommand(),
		checkCommand(),
		doctorCommand(),
		leaseCommand(),
		monitorCommand(),
		notifyTestCommand(),
		notifyHelperCommand(),
		superviseCommand(),
		uninstallProbesCommand(),
		thawCommand(),
		stageCommand(),
		replayCommand(),
		versionCommand(),
		completionCommand(),
		completeWordsCommand(),
		manCommand(),
		helpCommand(),
	}
}

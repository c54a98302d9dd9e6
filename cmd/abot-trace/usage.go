// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/supervise"
)

// Usage errors are told in two lines on standard error: what is wrong, and what was
// probably meant or where the help is. This file is the one place for them: it takes the
// library's own faults, and those of the actions by [usageError].

// exitConfig is EX_CONFIG of sysexits(3): systemd does not start the service again.
const exitConfig = 78

// usageCodes holds the exit codes of usage errors of the commands where it is not
// exitUsage, because 2 means something else there, or 78 means something to systemd.
var usageCodes = map[string]int{
	"daemon":    exitConfig,
	"monitor":   exitUnknown,
	"supervise": supervise.ExitFailed,
}

// A commandLineError is a fault of the command line itself.
type commandLineError struct {
	err  error
	hint string // what was probably meant; empty where nothing is near
}

func (e *commandLineError) Error() string { return e.err.Error() }
func (e *commandLineError) Unwrap() error { return e.err }

// usageError is a fault of the command line: the command's usage code, and a hint.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, &commandLineError{err: fmt.Errorf(format, args...)}}
}

// reportUsage makes the library hand over its own faults, of the program and of every
// command, instead of printing the whole help on standard output.
func reportUsage(app *cli.App) {
	app.OnUsageError = flagError
	app.HideHelpCommand = true
	app.Action = func(c *cli.Context) error {
		switch {
		case c.Bool("version"):
			return printVersion(c)
		case c.NArg() > 0:
			return unknownCommand(c.App, c.Args().First())
		default:
			return cli.ShowAppHelp(c)
		}
	}
	for _, command := range app.Commands {
		for _, c := range append([]*cli.Command{command}, command.Subcommands...) {
			c.OnUsageError = flagError
			c.HideHelpCommand = true
		}
	}
}

func versionFlag() cli.Flag {
	return &cli.BoolFlag{Name: "version", Usage: "print the version", DisableDefaultText: true}
}

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "print the help of the program, or of a command",
		ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return cli.ShowAppHelp(c)
			}
			name := c.Args().First()
			if c.App.Command(name) == nil {
				return unknownCommand(c.App, name)
			}
			return cli.ShowCommandHelp(c.Lineage()[1], name)
		},
	}
}

func unknownCommand(app *cli.App, name string) error {
	var names []string
	for _, c := range app.VisibleCommands() {
		names = append(names, c.Names()...)
	}
	e := &commandLineError{err: fmt.Errorf("unknown command %q", name)}
	if near := nearest.Word(name, names); near != "" {
		e.hint = fmt.Sprintf("did you mean %q?", near)
	}
	return &exitError{exitUsage, e}
}

// flagError says what the library found wrong with a flag in our words, and which flag
// was probably meant.
func flagError(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
		return unknownFlag(c, strings.TrimLeft(name, "-"))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: "); ok {
		return usageError("%s wants a value", dashed(strings.TrimLeft(name, "-")))
	}
	return usageError("%s", strings.NewReplacer("for flag -", "for --", "for -", "for --").Replace(text))
}

func unknownFlag(c *cli.Context, name string) error {
	var names []string
	for _, f := range c.Command.VisibleFlags() {
		names = append(names, f.Names()...)
	}
	e := &commandLineError{err: fmt.Errorf("unknown flag %q", dashed(name))}
	if near := nearest.Word(name, names); near != "" {
		e.hint = fmt.Sprintf("did you mean %s?", dashed(near))
	}
	return &exitError{exitUsage, e}
}

func dashed(flag string) string {
	if len(flag) == 1 {
		return "-" + flag
	}
	return "--" + flag
}

// commandOf returns the name of the command that args call, or nothing.
func commandOf(app *cli.App, args []string) string {
	for _, word := range args[min(1, len(args)):] {
		if strings.HasPrefix(word, "-") {
			continue
		}
		if c := app.Command(word); c != nil {
			return c.Name
		}
		break
	}
	return ""
}

// printError writes an error and what to try about it.
func printError(w io.Writer, err error, command string) {
	fmt.Fprintf(w, "abot-trace: %s\n", printable(err.Error()))
	var hint *hintError
	var misuse *commandLineError
	switch {
	case errors.As(err, &hint):
		fmt.Fprintf(w, "hint: %s\n", printable(hint.hint))
	case errors.As(err, &misuse) && misuse.hint != "":
		fmt.Fprintf(w, "hint: %s\n", misuse.hint)
	case errors.As(err, &misuse) && command == "":
		fmt.Fprintln(w, "hint: abot-trace --help lists the commands")
	case errors.As(err, &misuse):
		fmt.Fprintf(w, "hint: abot-trace %s --help explains it\n", command)
	}
}

// printable returns text as the terminal may have it, whoever has chosen parts of it: the
// daemon's refusals are in it as they came. Lines stay, and the tabs above a caret.
func printable(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		n := strings.IndexAny(text, "\n\t")
		if n < 0 {
			n = len(text)
		}
		b.WriteString(safetext.Terminal(text[:n]))
		if text = text[n:]; text != "" {
			b.WriteByte(text[0])
			text = text[1:]
		}
	}
	return b.String()
}

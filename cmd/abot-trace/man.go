// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"os"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"
)

// What the commands do not say themselves: files, exit codes, where to look.
//
//go:embed man/tail.md
var manTail string

// manCommand is for packaging: the manual page, from the same source as the help.
func manCommand() *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "print the manual page abot-trace(8), or a page written in markdown, as roff",
		ArgsUsage: "[FILE]",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			page := []byte(manPage(c.App))
			if c.NArg() > 0 {
				var err error
				if page, err = os.ReadFile(c.Args().First()); err != nil {
					return err
				}
			}
			_, err := c.App.Writer.Write(md2man.Render(page))
			return err
		},
	}
}

// manPage is the manual page as markdown.
func manPage(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% %s 8 \"\" \"%s %s\" \"System administration\"\n\n", strings.ToUpper(app.Name), app.Name, buildVersion())
	fmt.Fprintf(&b, "# NAME\n\n%s - %s\n\n", app.Name, app.Usage)
	fmt.Fprintf(&b, "# SYNOPSIS\n\n**%s** *command* [*options*] [*arguments*]\n\n", app.Name)
	if app.Description != "" {
		fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n", app.Description)
	}
	b.WriteString("# COMMANDS\n\n")
	for _, c := range app.VisibleCommands() {
		manEntry(&b, app.Name, c)
	}
	b.WriteString(manTail)
	return b.String()
}

func manEntry(b *strings.Builder, name string, c *cli.Command) {
	fmt.Fprintf(b, "## %s %s", name, c.Name)
	if len(c.VisibleFlags()) > 0 {
		b.WriteString(" [options]")
	}
	if c.ArgsUsage != "" {
		b.WriteString(" " + c.ArgsUsage)
	}
	fmt.Fprintf(b, "\n\n%s.\n\n", manSentence(c.Usage))
	if c.Description != "" {
		b.WriteString(c.Description + "\n\n")
	}
	for _, f := range c.VisibleFlags() {
		manFlag(b, f)
	}
	for _, sub := range c.VisibleCommands() {
		manEntry(b, name+" "+c.Name, sub)
	}
}

// manFlag writes a flag as a definition: its names and placeholder, then its usage.
func manFlag(b *strings.Builder, f cli.Flag) {
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return
	}
	names := make([]string, 0, 2)
	for _, name := range f.Names() {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		names = append(names, "**"+dashes+name+"**")
	}
	usage := doc.GetUsage()
	value := ""
	if doc.TakesValue() {
		value = "value"
		// As the help does it: a word between backquotes names the value.
		if before, rest, ok := strings.Cut(usage, "`"); ok {
			if word, after, ok := strings.Cut(rest, "`"); ok {
				value, usage = word, before+word+after
			}
		}
		value = " *" + value + "*"
	}
	usage = manSentence(usage)
	if text := doc.GetDefaultText(); doc.TakesValue() && text != "" {
		usage += " (default: " + text + ")"
	}
	fmt.Fprintf(b, "%s%s\n: %s.\n\n", strings.Join(names, ", "), value, usage)
}

func manSentence(s string) string {
	s = strings.TrimSuffix(strings.TrimSpace(s), ".")
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

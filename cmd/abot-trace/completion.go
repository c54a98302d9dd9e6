// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// The scripts ask the program for its words, so they cannot fall behind its help.
var (
	//go:embed completion/bash.sh
	bashCompletion string
	//go:embed completion/zsh.sh
	zshCompletion string
	//go:embed completion/fish.sh
	fishCompletion string
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Packages install these. For a binary that was copied by hand:

    source <(abot-trace completion bash)
    source <(abot-trace completion zsh)
    abot-trace completion fish | source`,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError("completion: want one of bash, zsh, fish")
			}
			scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
			script, ok := scripts[c.Args().First()]
			if !ok {
				return usageError("completion: no such shell %q: want bash, zsh or fish", c.Args().First())
			}
			_, err := fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}

// completeWordsCommand answers the completion scripts. It is ours, because the
// library's own completion runs the command for real once the line holds "--": a
// Tab must never start or end anything.
func completeWordsCommand() *cli.Command {
	return &cli.Command{
		Name:            "complete-words",
		Usage:           "print what may stand for the last of the words",
		Hidden:          true,
		HideHelp:        true,
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			for _, w := range completeWords(c.App.Commands, words, askFor(c.Context, words)) {
				if _, err := fmt.Fprintln(c.App.Writer, w); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// completeWords returns the candidates for the last of words, which may be empty or
// half a word, each with its explanation after a tab. words leave out the program's
// name. It only looks at names: nothing is parsed or run. known returns what the daemon
// knows of a kind, which is a word of a command's ArgsUsage: PID, LEAK, RULE.
func completeWords(commands []*cli.Command, words []string, known func(kind string) []candidate) []string {
	if len(words) == 0 {
		return nil
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	if slices.Contains(before, "--") {
		return nil
	}
	top := commands
	var command *cli.Command
	for _, w := range before {
		if i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(w) }); i >= 0 {
			command, commands = commands[i], commands[i].Subcommands
		}
	}
	var found []string
	add := func(word, usage string) {
		if strings.HasPrefix(word, last) {
			usage, _, _ = strings.Cut(usage, "\n")
			found = append(found, word+"\t"+usage)
		}
	}
	if flag := valuedFlag(command, before); flag != nil {
		addValues(command, flag, last, known, add)
		return found
	}
	if strings.HasPrefix(last, "-") {
		addFlags(command, add)
		return found
	}
	for _, c := range commands {
		if !c.Hidden {
			add(c.Name, c.Usage)
		}
	}
	if command != nil {
		addArguments(command, top, known, add)
	}
	return found
}

// addArguments adds what may be a command's argument: words that its usage lists, or what
// is known of the kinds there.
func addArguments(command *cli.Command, all []*cli.Command, known func(string) []candidate, add func(word, usage string)) {
	usage := strings.Trim(command.ArgsUsage, "[]")
	if strings.ContainsAny(usage, " [") {
		return
	}
	for _, word := range strings.Split(usage, "|") {
		switch {
		case word == "COMMAND":
			for _, c := range all {
				if !c.Hidden {
					add(c.Name, c.Usage)
				}
			}
		case word == strings.ToUpper(word):
			for _, c := range known(word) {
				add(c.word, c.usage)
			}
		case strings.Contains(usage, "|"):
			add(word, "")
		}
	}
}

func addFlags(command *cli.Command, add func(word, usage string)) {
	add("--help", "show help")
	if command == nil {
		return
	}
	for _, f := range command.VisibleFlags() {
		usage := ""
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			usage = strings.ReplaceAll(doc.GetUsage(), "`", "")
		}
		for _, name := range f.Names() {
			if len(name) > 1 && name != "help" {
				add("--"+name, usage)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags that stand behind arguments before them, where the
// library looks for them: `check F --json` is `check --json F`. What follows "--", and
// the words of a command that takes another command, stay where they are; so does what
// is typed while it is completed.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	cmd := app.Command(args[1])
	completing := args[len(args)-1] == "--generate-bash-completion"
	if cmd == nil || cmd.Hidden || cmd.Name == "supervise" || completing {
		return args
	}
	head := 2
	if len(args) > head {
		if i := slices.IndexFunc(cmd.Subcommands, func(s *cli.Command) bool { return s.HasName(args[head]) }); i >= 0 {
			cmd, head = cmd.Subcommands[i], head+1
		}
	}
	var flags, words []string
	rest := args[head:]
	for i := 0; i < len(rest); i++ {
		word := rest[i]
		if word == "--" {
			words = append(words, rest[i:]...)
			break
		}
		if len(word) < 2 || word[0] != '-' {
			words = append(words, word)
			continue
		}
		flags = append(flags, word)
		if takesValue(cmd, word) && i+1 < len(rest) {
			i++
			flags = append(flags, rest[i])
		}
	}
	return slices.Concat(args[:head], flags, words)
}

// takesValue reports whether the flag's value is the next word.
func takesValue(cmd *cli.Command, word string) bool {
	if strings.Contains(word, "=") {
		return false
	}
	name := strings.TrimLeft(word, "-")
	for _, f := range cmd.Flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		doc, ok := f.(cli.DocGenerationFlag)
		return ok && doc.TakesValue()
	}
	return false
}

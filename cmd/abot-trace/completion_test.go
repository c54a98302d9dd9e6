// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestCompleteWords(t *testing.T) {
	commands := []*cli.Command{
		{Name: "tree", Usage: "show\nmore", Flags: []cli.Flag{
			&cli.BoolFlag{Name: "kernel", Aliases: []string{"k"}, Usage: "by `PARENT`"},
			&cli.BoolFlag{Name: "secret", Hidden: true}}},
		{Name: "trap", Hidden: true},
		{Name: "shell", ArgsUsage: "bash|zsh", Usage: "scripts"},
		{Name: "run", ArgsUsage: "[--a|--b] -- CMD"},
		{Name: "group", Subcommands: []*cli.Command{{Name: "inner", Usage: "deep"}}},
	}
	for _, tt := range []struct {
		name  string
		words []string
		want  []string
	}{
		{"no word at all", nil, nil},
		{"everything", []string{""}, []string{"tree\tshow", "shell\tscripts", "run\t", "group\t"}},
		{"half a command, none hidden", []string{"tr"}, []string{"tree\tshow"}},
		{"flags, none hidden", []string{"tree", "-"}, []string{"--help\tshow help", "--kernel\tby PARENT"}},
		{"half a flag", []string{"tree", "--k"}, []string{"--kernel\tby PARENT"}},
		{"a wrong flag before", []string{"tree", "--wrong", "--k"}, []string{"--kernel\tby PARENT"}},
		{"a command's words", []string{"shell", "z"}, []string{"zsh\t"}},
		{"usage that is no list of words", []string{"run", ""}, nil},
		{"after the end of flags", []string{"run", "--", "tr"}, nil},
		{"a subcommand", []string{"group", ""}, []string{"inner\tdeep"}},
		{"not a command", []string{"nothing", "-"}, []string{"--help\tshow help"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := completeWords(commands, tt.words); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

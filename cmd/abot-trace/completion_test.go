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
			&cli.BoolFlag{Name: "secret", Hidden: true}, &cli.StringFlag{Name: "verdict"}, &cli.StringFlag{Name: "type", Aliases: []string{"t"}},
			&cli.StringFlag{Name: "unit"}, &cli.StringFlag{Name: "file"}}, ArgsUsage: "[PID]"},
		{Name: "trap", Hidden: true},
		{Name: "shell", ArgsUsage: "bash|zsh", Usage: "scripts"},
		{Name: "run", ArgsUsage: "[--a|--b] -- CMD"},
		{Name: "end", ArgsUsage: "PID|PID@START_NS|LEAK"},
		{Name: "arm", ArgsUsage: "RULE"},
		{Name: "help", ArgsUsage: "[COMMAND]"},
		{Name: "leaks", Hidden: true, Flags: []cli.Flag{&cli.StringFlag{Name: "sort"}}},
		{Name: "group", Subcommands: []*cli.Command{{Name: "inner", Usage: "deep"}}},
	}
	known := func(kind string) []candidate {
		return map[string][]candidate{"PID": {{"17", "one"}, {"4711", "two"}}, "LEAK": {{"L0123456789ab", "open"}},
			"RULE": {{"stale", "observe"}, {"large", "enforce"}}, "UNIT": {{"web.service", ""}}}[kind]
	}
	for _, tt := range []struct {
		name  string
		words []string
		want  []string
	}{
		{"no word at all", nil, nil},
		{"everything", []string{""}, []string{"tree\tshow", "shell\tscripts", "run\t", "end\t", "arm\t", "help\t", "group\t"}},
		{"half a command, none hidden", []string{"tr"}, []string{"tree\tshow"}},
		{"flags, none hidden", []string{"tree", "-"}, []string{"--help\tshow help", "--kernel\tby PARENT", "--verdict\t", "--type\t", "--unit\t", "--file\t"}},
		{"half a flag", []string{"tree", "--k"}, []string{"--kernel\tby PARENT"}},
		{"a wrong flag before", []string{"tree", "--wrong", "--k"}, []string{"--kernel\tby PARENT"}},
		{"a command's words", []string{"shell", "z"}, []string{"zsh\t"}},
		{"usage that is no list of words", []string{"run", ""}, nil},
		{"after the end of flags", []string{"run", "--", "tr"}, nil},
		{"a subcommand", []string{"group", ""}, []string{"inner\tdeep"}},
		{"pids of a command", []string{"tree", ""}, []string{"17\tone", "4711\ttwo"}},
		{"half a pid", []string{"tree", "47"}, []string{"4711\ttwo"}},
		{"pids and leaks", []string{"end", ""}, []string{"17\tone", "4711\ttwo", "L0123456789ab\topen"}},
		{"commands", []string{"help", "tr"}, []string{"tree\tshow"}},
		{"rules", []string{"arm", "st"}, []string{"stale\tobserve"}},
		{"a flag's words", []string{"tree", "--verdict", "l"}, []string{"leaked\t"}},
		{"the orders of leaks", []string{"leaks", "--sort", ""}, []string{"age\t", "cost\t", "memory\t", "user\t"}},
		{"the first of a list", []string{"tree", "--type", "or"}, []string{"orphan\t"}},
		{"the next of a list, by the short flag", []string{"tree", "-t", "kill,or"}, []string{"kill,orphan\t"}},
		{"what the daemon knows for a flag", []string{"tree", "--unit", "w"}, []string{"web.service\t"}},
		{"a flag's value that nobody knows", []string{"tree", "--file", ""}, nil},
		{"not a command", []string{"nothing", "-"}, []string{"--help\tshow help"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := completeWords(commands, tt.words, known); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

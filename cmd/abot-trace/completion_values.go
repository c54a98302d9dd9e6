// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/term"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A candidate is a word that may stand there, and what it is.
type candidate struct{ word, usage string }

// flagValues are the words that flags take, by the flag and the command.
func flagValues(flag, command string) []string {
	switch flag {
	case "type":
		return wire.Types
	case "verdict":
		return []string{wire.VerdictLeaked, wire.VerdictDeliberate, wire.VerdictUnknown}
	case "color", "fold":
		return []string{term.Auto, term.Always, term.Never}
	case "output":
		return []string{outputWide}
	case "by":
		return leak.Keys
	case "sort":
		if command == "leaks" {
			return slices.Sorted(maps.Keys(leakOrders))
		}
		return slices.Sorted(maps.Keys(orphanOrders))
	case "scope":
		return []string{wire.ScopeTree, wire.ScopeProcess}
	case "signal":
		return []string{"SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGKILL"}
	case "columns":
		if command == "leaks" {
			return render.LeakColumns()
		}
		return render.OrphanColumns()
	}
	return nil
}

// flagKinds are the kinds of what flags take that the daemon knows.
var flagKinds = map[string]string{"rule": "RULE", "pid": "PID", "user": "USER", "unit": "UNIT", "container": "CONTAINER"}

// lists are the flags that take words separated by commas.
var lists = []string{"type", "columns"}

// valuedFlag is the flag that takes the word behind before; nil where none does.
func valuedFlag(command *cli.Command, before []string) cli.Flag {
	if command == nil || len(before) == 0 {
		return nil
	}
	name, dashed := strings.CutPrefix(before[len(before)-1], "-")
	if !dashed {
		return nil
	}
	name = strings.TrimPrefix(name, "-")
	for _, f := range command.VisibleFlags() {
		if doc, ok := f.(cli.DocGenerationFlag); ok && doc.TakesValue() && slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// addValues adds what the flag may take. Of a list the last word is completed.
func addValues(command *cli.Command, flag cli.Flag, last string, known func(string) []candidate, add func(word, usage string)) {
	name, head := flag.Names()[0], ""
	if slices.Contains(lists, name) {
		head = last[:strings.LastIndex(last, ",")+1]
	}
	for _, word := range flagValues(name, command.Name) {
		add(head+word, "")
	}
	for _, c := range known(flagKinds[name]) {
		add(c.word, c.usage)
	}
}

// completionPatience is how long somebody who pressed Tab waits for the daemon.
const completionPatience = time.Second

// askFor asks the daemon that the words name for what it knows of a kind. It is silent
// where none answers: a Tab is no question.
func askFor(ctx context.Context, words []string) func(kind string) []candidate {
	socket := api.DefaultSocket
	if named := os.Getenv(socketVariable); named != "" {
		socket = named
	}
	if i := slices.Index(words, "--socket"); i >= 0 && i+2 < len(words) {
		socket = words[i+1]
	}
	last := ""
	if len(words) > 0 {
		last = words[len(words)-1]
	}
	return func(kind string) (found []candidate) {
		ctx, cancel := context.WithTimeout(ctx, completionPatience)
		defer cancel()
		client := api.NewClient(socket)
		switch kind {
		case "PID":
			return pidCandidates(ctx, client, last)
		case "LEAK", "FINGERPRINT":
			return leakCandidates(ctx, client, kind)
		case "RULE":
			rules, _ := client.Rules(ctx)
			for i := range rules {
				found = append(found, candidate{safetext.Field(rules[i].Name), rules[i].Mode})
			}
		case "USER", "UNIT", "CONTAINER":
			return placeCandidates(ctx, client, kind)
		}
		return found
	}
}

// pidCandidates are the orphans or, where a number was begun, all processes.
func pidCandidates(ctx context.Context, client *api.Client, last string) (found []candidate) {
	list, err := client.Orphans(ctx)
	if last != "" {
		if tree, treeErr := client.Tree(ctx); treeErr == nil {
			list, err = tree.Processes, nil
		}
	}
	if err != nil {
		return nil
	}
	for i := range list {
		p := &list[i]
		what := render.Command(p)
		if p.Orphan != nil {
			what = safetext.Field(p.Orphan.Verdict) + " " + what
		}
		if p.State == wire.StateRunning {
			found = append(found, candidate{strconv.Itoa(int(p.PID)), what})
		}
	}
	return found
}

func leakCandidates(ctx context.Context, client *api.Client, kind string) (found []candidate) {
	doc, err := client.Leaks(ctx, "")
	if err != nil {
		return nil
	}
	for i := range doc.Leaks {
		l := &doc.Leaks[i]
		c := candidate{safetext.Field(l.ID), fmt.Sprintf("%s, %s: %s", safetext.Field(l.State), safetext.Field(l.Verdict), render.LeakName(l))}
		if kind == "FINGERPRINT" {
			c.word = safetext.Field(l.Fingerprint)
		}
		if c.word != "" && !slices.ContainsFunc(found, func(f candidate) bool { return f.word == c.word }) {
			found = append(found, c)
		}
	}
	return found
}

// placeCandidates are the users, units or containers of living processes.
func placeCandidates(ctx context.Context, client *api.Client, kind string) (found []candidate) {
	tree, err := client.Tree(ctx)
	if err != nil {
		return nil
	}
	names := make(map[string]bool)
	for i := range tree.Processes {
		p := &tree.Processes[i]
		name := safetext.Field(map[string]string{"USER": p.User, "UNIT": p.Unit, "CONTAINER": p.Container}[kind])
		if name != "" && !names[name] {
			names[name] = true
			found = append(found, candidate{word: name})
		}
	}
	return found
}

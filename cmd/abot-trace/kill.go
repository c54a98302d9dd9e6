// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/term"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func killCommand() *cli.Command {
	return &cli.Command{
		Name:      "kill",
		Usage:     "end a process, its tree, or everything that a dead one left",
		ArgsUsage: "PID|PID@START_NS|LEAK",
		Description: `Says what it will end, with users and memory, asks, ends it the way rules do, and
verifies every death. A PID is the living process that has it. Where nothing lives under
that number, and exactly one known leak was left by it, that leak is meant. Scripts name
a leak's id, or PID@START_NS, which is one process for ever.

Protected processes are left alone with all below them, and so are those that were left
running deliberately or with ABOT_TRACE_KEEP=1, unless they are named themselves. Root
may end any other; everyone else what they could signal.

Without a terminal --yes is needed; else it says what it would end and exits with 2. While
the stop file exists there is a second question, which --yes does not answer. Exits with 1
when something survived.

Examples:
   abot-trace kill 4711
   abot-trace kill --scope process 4711
   abot-trace kill --dry-run 4711
   abot-trace kill --yes L0123456789ab
   abot-trace kill --yes --signal SIGINT --grace 30s 4711@81230000000`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "signal", Value: "SIGTERM", Usage: "send `SIGNAL` first: SIGTERM, SIGINT, SIGHUP, SIGQUIT, or SIGKILL at once"},
			&cli.StringFlag{Name: "grace", Value: "10s", Usage: "time from that signal to SIGKILL, as `DURATION`"},
			&cli.StringFlag{Name: "scope", Value: wire.ScopeTree, Usage: "end the `SCOPE`: tree or process"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be ended"},
			jsonFlag(), colorFlag(), socketFlag(),
		},
		Action: runKill,
	}
}

func runKill(c *cli.Context) error {
	req, err := killRequest(c)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	client, err := reach(ctx, c)
	if err != nil {
		return explained(err)
	}
	if client == nil {
		return withHint(errors.New("no daemon runs here, and without one nobody knows who belongs together"),
			"kill(1) ends one process")
	}
	plan, err := client.PlanKill(ctx, req)
	if err != nil {
		return killRefused(&req, err)
	}
	if c.Bool("dry-run") {
		if c.Bool("json") {
			return writeJSON(c.App.Writer, plan)
		}
		return render.KillPlan(c.App.Writer, plan, styleOf(c))
	}
	if err := confirm(c, plan); err != nil {
		return err
	}
	// What was shown is what is ended: not whoever has the pid by now.
	req.PID, req.StartNS, req.Leak, req.DespiteStopFile = plan.PID, plan.StartNS, plan.Leak, plan.Stop != nil
	return carryOutKill(ctx, c, client, &req)
}

func carryOutKill(ctx context.Context, c *cli.Context, client *api.Client, req *api.KillRequest) error {
	kill, err := client.Kill(ctx, *req)
	if err != nil {
		return killRefused(req, err)
	}
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, kill)
	} else {
		err = render.Kills(c.App.Writer, []wire.Kill{*kill}, styleOf(c))
	}
	if err == nil && survived(*kill) {
		return &exitError{code: exitFailed}
	}
	return err
}

// killRequest reads the command line.
func killRequest(c *cli.Context) (req api.KillRequest, err error) {
	if c.NArg() != 1 {
		return req, usageError("kill: want one PID, PID@START_NS or LEAK, got %d arguments", c.NArg())
	}
	word := c.Args().First()
	if isLeakID(word) {
		req.Leak = word
	} else if req.PID, req.StartNS, err = parseIdentity(word); err != nil {
		return req, usageError("kill: %w", err)
	}
	if scope := c.String("scope"); scope != wire.ScopeTree && scope != wire.ScopeProcess {
		return req, usageError("--scope %q: want tree or process", scope)
	} else if req.Leak == "" {
		req.Scope = scope
	} else if scope != wire.ScopeTree {
		return req, usageError("--scope process: a leak is ended whole")
	}
	grace, err := quantity.ParseDuration(c.String("grace"))
	if err != nil {
		return req, usageError("--grace: %w", err)
	}
	seconds := grace.Seconds()
	req.GraceSeconds = &seconds
	if req.Signal = strings.ToUpper(c.String("signal")); !strings.HasPrefix(req.Signal, "SIG") {
		req.Signal = "SIG" + req.Signal
	}
	return req, nil
}

// parseIdentity reads PID or PID@START_NS; start is 0 without one.
func parseIdentity(word string) (pid int32, start uint64, err error) {
	number, at, exact := strings.Cut(word, "@")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil || n <= 0 {
		return 0, 0, fmt.Errorf("%q: want a pid, PID@START_NS, or a leak's id, which is L and 12 hexadecimal digits", word)
	}
	if !exact {
		return int32(n), 0, nil
	}
	if start, err = strconv.ParseUint(at, 10, 64); err != nil || start == 0 {
		return 0, 0, fmt.Errorf("%q: want nanoseconds since boot behind the @, as start_ns has them", word)
	}
	return int32(n), start, nil
}

// killRefused is exit 2 where a number names no process and no leak for certain, or the
// request cannot be meant, else 1.
func killRefused(req *api.KillRequest, err error) error {
	var status *api.StatusError
	if !errors.As(err, &status) {
		return explained(err)
	}
	switch {
	case status.Code == http.StatusBadRequest:
		return usageError("kill: %w", err)
	case req.PID != 0 && (status.Code == http.StatusNotFound || status.Code == http.StatusConflict):
		return &exitError{exitUsage, withHint(err, "abot-trace leaks lists leaks with their ids, abot-trace tree the living")}
	}
	return err
}

// confirm shows the plan and asks, where anybody can be asked; its error is that nothing is to
// be ended.
func confirm(c *cli.Context, plan *wire.KillPlan) error {
	if len(plan.Processes) == 0 {
		return nothingToEnd(plan)
	}
	if c.Bool("yes") && plan.Stop == nil {
		return nil
	}
	out := c.App.ErrWriter
	style := render.Style{Color: term.Color(c.String("color"), out), Width: term.Width(out)}
	if err := render.KillPlan(out, plan, style); err != nil {
		return err
	}
	in, terminal := c.App.Reader, isTerminal(c.App.Reader)
	switch {
	case plan.Stop != nil && !terminal:
		return usageError("kill: the stop file %s has called off all kills: that wants an answer at a terminal, --yes does not suffice", safetext.Terminal(plan.Stop.Path))
	case !c.Bool("yes") && !terminal:
		return usageError("kill: standard input is no terminal: --yes ends it without a question")
	}
	answers := bufio.NewReader(in)
	if plan.Stop != nil {
		question := "The stop file " + safetext.Terminal(plan.Stop.Path) + " has called off all kills"
		if plan.Stop.Reason != "" {
			question += " (" + safetext.Terminal(plan.Stop.Reason) + ")"
		}
		if !answersYes(out, answers, question+". Do it all the same?") {
			return errNothingEnded
		}
	}
	if !c.Bool("yes") && !answersYes(out, answers, "End this?") {
		return errNothingEnded
	}
	return nil
}

var errNothingEnded = errors.New("nothing was ended: the answer was no")

// nothingToEnd says why the plan is empty.
func nothingToEnd(plan *wire.KillPlan) error {
	if len(plan.Spared) == 0 {
		return errors.New("nothing to end: another kill is ending it already")
	}
	p := &plan.Spared[0]
	who := fmt.Sprintf("pid %d", p.PID)
	if p.Comm != "" {
		who += " (" + safetext.Name(p.Comm) + ")"
	}
	return fmt.Errorf("%s is not ended: %s", who, safetext.Terminal(p.Reason))
}

func answersYes(out io.Writer, in *bufio.Reader, question string) bool {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, _ := in.ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true
	}
	return false
}

// isTerminal reports whether somebody can be asked there.
func isTerminal(r io.Reader) bool {
	w, ok := r.(io.Writer)
	return ok && term.IsTerminal(w)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// decideCommands are the subcommands of leaks by which people say what is to be made of
// leaks of one fingerprint.
func decideCommands() []*cli.Command {
	reason := &cli.StringFlag{Name: "reason", Usage: "why, as a `TEXT` for those who come later"}
	return []*cli.Command{
		{
			Name: "ack", Usage: "say that such leaks are known: nobody is sent a notice, they are counted on",
			ArgsUsage: "FINGERPRINT|LEAK",
			Flags: []cli.Flag{reason, socketFlag(),
				&cli.StringFlag{Name: "for", Value: "7d", Usage: "for how long: a duration `D`, 30d at most"}},
			Action: func(c *cli.Context) error { return decide(c, wire.TrustAck) },
		},
		{
			Name: "ignore", Usage: "have no rule ever end such leaks; only root may",
			ArgsUsage: "FINGERPRINT|LEAK",
			Flags:     []cli.Flag{reason, socketFlag()},
			Action:    func(c *cli.Context) error { return decide(c, wire.TrustIgnore) },
		},
		{
			Name: "forget", Usage: "take back what was decided about such leaks, a rule's suspension too; only root may",
			ArgsUsage: "FINGERPRINT|LEAK",
			Flags:     []cli.Flag{reason, socketFlag()},
			Action:    func(c *cli.Context) error { return decide(c, wire.TrustForget) },
		},
		{
			Name: "export", Usage: "print what people have decided as YAML, for other hosts",
			Flags: []cli.Flag{socketFlag()}, Action: exportDecisions,
		},
		{
			Name: "import", Usage: "take decisions from a file that export has written, - for standard input; only root may",
			ArgsUsage: "FILE",
			Flags:     []cli.Flag{socketFlag()}, Action: importDecisions,
		},
	}
}

// daemonAt returns the client of the daemon, which must be there.
func daemonAt(ctx context.Context, c *cli.Context) (*api.Client, error) {
	client, err := reach(ctx, c)
	if err != nil {
		return nil, explained(err)
	}
	if client == nil {
		return nil, withHint(errors.New("no daemon runs here"), "start it: sudo systemctl start abot-trace")
	}
	return client, nil
}

// decide has the daemon note a decision about one fingerprint.
func decide(c *cli.Context, action string) error {
	if c.NArg() != 1 {
		return usageError("leaks %s: want one FINGERPRINT or LEAK", action)
	}
	req := api.TrustRequest{Action: action, Fingerprint: c.Args().First(), Reason: c.String("reason")}
	if !trust.IsFingerprint(req.Fingerprint) && !isLeakID(req.Fingerprint) {
		return usageError("leaks %s: %q is neither a fingerprint nor a leak's id: want F or L and 12 hexadecimal digits", action, req.Fingerprint)
	}
	if req.Reason == "" && action != wire.TrustForget {
		return usageError("leaks %s: want --reason TEXT: somebody will ask", action)
	}
	if action == wire.TrustAck {
		d, err := quantity.ParseDuration(c.String("for"))
		if err != nil {
			return usageError("--for: %w", err)
		}
		if d <= 0 || d > trust.MaxAck {
			return usageError("--for %s: want more than nothing and 30d at most", c.String("for"))
		}
		req.Seconds = d.Seconds()
	}
	ctx, stop := interruptible(c)
	defer stop()
	client, err := daemonAt(ctx, c)
	if err != nil {
		return err
	}
	if isLeakID(req.Fingerprint) {
		doc, err := client.Leaks(ctx, req.Fingerprint)
		if err != nil {
			return explained(err)
		}
		req.Fingerprint = doc.Leaks[0].Fingerprint
	}
	return sendDecision(ctx, c, client, req)
}

func sendDecision(ctx context.Context, c *cli.Context, client *api.Client, req api.TrustRequest) error {
	answer, err := client.Decide(ctx, req)
	if err != nil {
		return explained(err)
	}
	if !answer.Saved {
		fmt.Fprintf(c.App.ErrWriter, "It holds until this daemon ends: %s.\n", safetext.Terminal(answer.Why))
	}
	_, err = fmt.Fprintln(c.App.Writer, trust.Sentence(&answer.Trust))
	return err
}

// decisions are those of people, as export writes them.
type decisions struct {
	Decisions []decision `yaml:"decisions"`
}

type decision struct {
	Action      string `yaml:"action"` // ack or ignore
	Fingerprint string `yaml:"fingerprint"`
	Name        string `yaml:"name,omitempty"`
	Reason      string `yaml:"reason"`
	By          string `yaml:"by,omitempty"`
	Until       string `yaml:"until,omitempty"` // of an ack, RFC 3339
}

func exportDecisions(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	client, err := daemonAt(ctx, c)
	if err != nil {
		return err
	}
	list, err := client.Trust(ctx)
	if err != nil {
		return explained(err)
	}
	out := decisions{Decisions: []decision{}}
	for i := range list {
		t := &list[i]
		if t.Kind == wire.TrustSuspend { // it is this host's, and the daemon's
			continue
		}
		d := decision{Action: t.Kind, Fingerprint: t.Fingerprint, Name: t.Name, Reason: t.Reason, By: trust.Decider(t.By)}
		if t.Until != nil {
			d.Until = t.Until.UTC().Format(time.RFC3339)
		}
		out.Decisions = append(out.Decisions, d)
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(text)
	return err
}

// maxImport bounds a file of decisions.
const maxImport = 4 << 20

func importDecisions(c *cli.Context) error {
	if c.NArg() != 1 {
		return usageError("leaks import: want one FILE")
	}
	requests, past, err := readDecisions(c.Args().First(), time.Now())
	if err != nil {
		return &exitError{exitUsage, err}
	}
	ctx, stop := interruptible(c)
	defer stop()
	client, err := daemonAt(ctx, c)
	if err != nil {
		return err
	}
	for _, req := range requests {
		if err := sendDecision(ctx, c, client, req); err != nil {
			return err
		}
	}
	if past > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%d acks are over and were passed over.\n", past)
	}
	return nil
}

// readDecisions reads and checks a whole file before anything in it is decided. Acks that are
// over at now are counted, and left out.
func readDecisions(path string, now time.Time) (requests []api.TrustRequest, past int, err error) {
	text, err := readBounded(path)
	if err != nil {
		return nil, 0, err
	}
	var in decisions
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&in); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	for i, d := range in.Decisions {
		req := api.TrustRequest{Action: d.Action, Fingerprint: d.Fingerprint, Name: d.Name, Reason: d.Reason}
		switch {
		case !slices.Contains([]string{wire.TrustAck, wire.TrustIgnore}, d.Action):
			return nil, 0, fmt.Errorf("%s: decision %d: action %q: want ack or ignore", path, i+1, d.Action)
		case !trust.IsFingerprint(d.Fingerprint):
			return nil, 0, fmt.Errorf("%s: decision %d: fingerprint %q: want F and 12 hexadecimal digits", path, i+1, d.Fingerprint)
		case d.Reason == "":
			return nil, 0, fmt.Errorf("%s: decision %d: a reason is missing", path, i+1)
		}
		if d.Action == wire.TrustAck {
			until, err := time.Parse(time.RFC3339, d.Until)
			if err != nil {
				return nil, 0, fmt.Errorf("%s: decision %d: until %q: want a time as 2026-01-31T15:04:05Z", path, i+1, d.Until)
			}
			left := min(until.Sub(now), trust.MaxAck)
			if left <= 0 {
				past++
				continue
			}
			req.Seconds = left.Seconds()
		}
		requests = append(requests, req)
	}
	return requests, past, nil
}

func readBounded(path string) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err == nil && len(text) > maxImport {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxImport)
	}
	return text, err
}

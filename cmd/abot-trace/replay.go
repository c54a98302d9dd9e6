// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func replayCommand() *cli.Command {
	return &cli.Command{
		Name:      "replay",
		Usage:     "say what a configuration would have killed over the past",
		ArgsUsage: "FILE",
		Description: `Makes the process tree again from the history, or from recorded events, runs the rules
of FILE over it with the clock of then, and prints what each would have done, when and why;
then what became of that without it. Nothing is signalled. Memory is that of the samples
that were kept: of large processes and of leaks.

Examples:
   abot-trace replay --since 7d /etc/abot-trace/config.yaml
   abot-trace replay --history /var/lib/abot-trace/history config.yaml
   abot-trace events --json | abot-trace replay --events - config.yaml
   abot-trace replay --events recorded.ndjson --json config.yaml`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "over the history since `T`: an age as 24h or 7d, or a time as 2026-01-31T15:04"},
			&cli.StringFlag{Name: "until", Usage: "until `T`"},
			historyFlag(),
			&cli.StringFlag{Name: "events", Usage: "over the events of `FILE`, NDJSON as events --json writes it; - is standard input"},
			jsonFlag(), socketFlag(),
		},
		Action: runReplay,
	}
}

func runReplay(c *cli.Context) error {
	if c.NArg() != 1 {
		return usageError("replay wants one configuration, got %d", c.NArg())
	}
	recorded := c.String("events") != ""
	if recorded == (c.IsSet("since") || c.IsSet("history")) || recorded && c.IsSet("until") {
		return usageError("replay wants either --since or --events, or --history")
	}
	q := past.Query{Samples: true}
	var err error
	if q.From, err = pastTime(c, "since"); err != nil {
		return err
	}
	if q.To, err = pastTime(c, "until"); err != nil {
		return err
	}
	cfg, err := config.Load(c.Args().First(), config.Options{})
	if err != nil {
		return invalidConfig(err)
	}
	var follower replay.Follower
	player, err := replay.New(func() (*policy.Engine, error) { return cfg.Engine(false) }, follower.Act)
	if err != nil {
		return err
	}
	progress := newTimeProgress(c.App.ErrWriter)
	player.OnEvent = func(e *wire.Event) {
		follower.Apply(e)
		progress.at(e.Time)
	}
	var summary replay.Summary
	if recorded {
		summary, err = replayFile(c, player)
	} else {
		summary, err = replayPast(c, player, q)
	}
	progress.end()
	if err != nil {
		return err
	}
	if summary.Events == 0 && summary.Unreadable > 0 {
		return fmt.Errorf("none of %d lines is an event", summary.Unreadable)
	}
	printer := replayPrinter{w: c.App.Writer, json: c.Bool("json"), from: q.From, to: summary.To}
	for _, act := range follower.Acts {
		if err := printer.act(act); err != nil {
			return err
		}
	}
	return printer.summary(c.App.ErrWriter, summary)
}

// replayFile plays a file or standard input.
func replayFile(c *cli.Context, player *replay.Player) (replay.Summary, error) {
	in, closeIn, err := openEvents(c.String("events"))
	if err != nil {
		return replay.Summary{}, err
	}
	defer closeIn()
	return player.Run(in)
}

// openEvents opens a file of recorded events, or standard input for "-".
func openEvents(name string) (in io.Reader, closeIn func(), err error) {
	if name == "-" {
		return os.Stdin, func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}

// replayPast plays the history from the tree on as it was at its beginning: what was spawned
// before may have been orphaned after it.
func replayPast(c *cli.Context, player *replay.Player, q past.Query) (replay.Summary, error) {
	ctx, stop := interruptible(c)
	defer stop()
	play := replayDaemon
	if c.IsSet("history") {
		play = replayArchive
	}
	if err := play(ctx, c, player, q); err != nil {
		return replay.Summary{}, explained(err)
	}
	return player.End()
}

func replayDaemon(ctx context.Context, c *cli.Context, player *replay.Player, q past.Query) error {
	client, err := reachPast(ctx, c)
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if h := status.History; h != nil && h.Stream.Since != nil {
		if q.From.Before(*h.Stream.Since) {
			notePast(c, []string{"the history begins at " + h.Stream.Since.Local().Format(time.RFC3339)})
			q.From = *h.Stream.Since
		}
		doc, err := client.At(q.From).Tree(ctx)
		if err != nil {
			return err
		}
		if err := player.Begin(doc); err != nil {
			return err
		}
	}
	return client.LinesBetween(ctx, q, func(lines []byte) error {
		for line := range bytes.Lines(lines) {
			if err := player.Line(line); err != nil {
				return err
			}
		}
		return nil
	})
}

func replayArchive(ctx context.Context, c *cli.Context, player *replay.Player, q past.Query) error {
	a, err := openArchive(c)
	if err != nil {
		return err
	}
	defer a.close()
	if begin := a.View(history.Stream).Begin(); q.From.Before(begin) {
		q.From = begin
	}
	m, err := past.At(a, q.From)
	if err != nil {
		return err
	}
	doc, err := m.Tree(ctx)
	if err != nil {
		return err
	}
	if err := player.Begin(doc); err != nil {
		return err
	}
	_, err = past.Events(ctx, a, q, player.Apply)
	return err
}

// replayPrinter writes acts, and what became of them.
type replayPrinter struct {
	w        io.Writer
	json     bool
	from, to time.Time // what was before is not told
	acts     int
	trees    int
	freed    uint64
	saved    float64        // byte seconds
	fates    map[string]int // of trees
}

func (p *replayPrinter) act(f *replay.Followed) error {
	a := &f.Act
	if a.Time.Before(p.from) {
		return nil
	}
	p.acts++
	until := f.Until
	if until.IsZero() {
		until = p.to
	}
	lived := max(until.Sub(a.Time), 0)
	if a.Action == policy.ActionKill && a.Enforceable {
		p.trees++
		if p.fates == nil {
			p.fates = make(map[string]int)
		}
		p.fates[f.Fate]++
		p.freed += a.Bytes()
		p.saved += float64(a.Bytes()) * lived.Seconds()
	}
	afterwards := "it was still open " + quantity.FormatDuration(lived) + " later"
	if f.Fate != replay.FateOpen {
		afterwards = "it " + f.Fate + " " + quantity.FormatDuration(lived) + " later"
	}
	if p.json {
		return json.NewEncoder(p.w).Encode(replayEvent(*a, p.acts, afterwards))
	}
	_, err := io.WriteString(p.w, replayText(*a, afterwards))
	return err
}

// replayText is one act for people. Names and reasons hold what processes call
// themselves: each line is escaped as a whole.
func replayText(a replay.Act, afterwards string) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight(safetext.Terminal(fmt.Sprintf(format, args...)), " ") + "\n")
	}
	what := "would kill"
	switch {
	case a.Action == policy.ActionNotify:
		what = "would notify of"
	case !a.Enforceable:
		what = "would report"
	}
	line("%s  %s: %s pid %d (%s), %s", a.Time.Format(time.RFC3339), a.Rule, what, a.Root.PID, a.Root.Comm, a.Verdict)
	for _, reason := range a.Reasons {
		line("    because %s", reason)
	}
	if a.Blocker != "" {
		line("    not ended: %s", a.Blocker)
	}
	for _, t := range a.Targets {
		line("    signals pid %d (%s) %s", t.ID.PID, t.Comm, t.Cmdline)
	}
	for _, s := range a.Spared {
		line("    spares pid %d (%s): %s", s.ID.PID, s.Comm, s.Reason)
	}
	line("    afterwards %s", afterwards)
	return b.String()
}

// replayEvent is one act in the words of the event stream.
func replayEvent(a replay.Act, n int, afterwards string) wire.Event {
	root := a.Root
	event := wire.Event{Schema: wire.Schema, ID: fmt.Sprintf("replay-%d", n), Seq: uint64(n),
		Time: a.Time, TimeNS: a.At, Type: wire.TypeKill, Process: &root}
	if a.Action == policy.ActionNotify {
		event.Type = wire.TypeAlert
		event.Alert = &wire.Alert{Name: a.Rule, State: wire.AlertWarning, Since: a.Time, Message: strings.Join(a.Reasons, "; ")}
		return event
	}
	reason := strings.Join(a.Reasons, "; ")
	if a.Blocker != "" {
		reason += "; not ended: " + a.Blocker
	}
	reason += "; afterwards " + afterwards
	kill := &wire.Kill{KillID: event.ID, Rule: a.Rule, Mode: wire.ModeObserve, Scope: a.Scope,
		GraceSeconds: a.Grace.Seconds(), Verdict: a.Verdict, Reason: reason,
		Processes: []wire.Killed{}, Outcome: wire.KillObserved}
	for _, t := range a.Targets {
		killed := wire.Killed{PID: t.ID.PID, StartNS: t.ID.Start, Comm: t.Comm, Outcome: wire.OutcomeWouldKill}
		if t.MemoryKnown {
			rss, swap := t.RSS, t.Swap
			killed.RSSBytes, killed.SwapBytes = &rss, &swap
		}
		kill.Processes = append(kill.Processes, killed)
	}
	event.Kill = kill
	return event
}

// fateOfMany says what became of several.
var fateOfMany = map[string]string{
	replay.FateDeliberate: "proved deliberate",
	replay.FateItself:     "ended by themselves",
	replay.FateKilled:     "were ended by a kill",
	replay.FateOther:      "ended otherwise",
	replay.FateOpen:       "are still there",
}

// summary says how far the answer can be believed, on standard error, so that the
// acts stay by themselves.
func (p *replayPrinter) summary(w io.Writer, s replay.Summary) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s", quantity.Count(s.Events, "event"), quantity.Count(s.Orphans, "orphaning"))
	if s.Events > 0 {
		fmt.Fprintf(&b, ", %s to %s", s.From.Format(time.RFC3339), s.To.Format(time.RFC3339))
	}
	fmt.Fprintf(&b, ": %s would have been ended\n", quantity.Count(p.trees, "tree"))
	for _, fate := range []string{replay.FateDeliberate, replay.FateItself, replay.FateKilled, replay.FateOther, replay.FateOpen} {
		if n := p.fates[fate]; n > 0 {
			fmt.Fprintf(&b, "%d of them %s\n", n, fateOfMany[fate])
		}
	}
	if p.freed > 0 {
		fmt.Fprintf(&b, "they held %s when last sampled, %s over the time that they lived on\n", quantity.FormatSize(p.freed), render.ByteTime(&p.saved))
	}
	for _, note := range []struct {
		count uint64
		text  string
	}{
		{s.Lost, "%d records were lost before they were recorded: what they would have shown is missing\n"},
		{uint64(s.Hidden), "%d orphans had arguments that are hidden: patterns on command lines may have met those\n"},
		{uint64(s.Unreadable), "%d lines were no events and were passed over\n"},
		{uint64(s.Boots), "the clock went back %d times: other boots, judged on their own\n"},
	} {
		if note.count > 0 {
			fmt.Fprintf(&b, note.text, note.count)
		}
	}
	if !s.Sampled {
		b.WriteString("the events tell no memory: rules on memory could not hold\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func atFlag() cli.Flag {
	return &cli.StringFlag{Name: "at", Usage: "as it was at `T`: an age as 2h, or a time as 2026-01-31T15:04 or 03:00"}
}

func historyFlag() cli.Flag {
	return &cli.StringFlag{Name: "history", Usage: "out of `FILE`, an export or the directory of a history, without a daemon"}
}

// asksPast reports whether a command is asked about the past.
func asksPast(c *cli.Context) bool { return c.IsSet("at") || c.IsSet("history") }

// askable returns a usage error where the past is asked by what is not kept.
func (f *filter) askable(c *cli.Context) error {
	if asksPast(c) && len(f.cwds)+len(f.ports) > 0 {
		return usageError("%s: directories and ports are not kept: --cwd and --port cannot stand beside --at or --history", c.Command.Name)
	}
	return nil
}

// pastTime is the time that a flag names; zero where it is not given.
func pastTime(c *cli.Context, flag string) (time.Time, error) {
	text, now := c.String(flag), time.Now()
	if text == "" {
		if c.IsSet(flag) {
			return time.Time{}, usageError("--%s: want a time", flag)
		}
		return time.Time{}, nil
	}
	at, err := quantity.ParseTime(text, now)
	switch {
	case err != nil:
		return at, usageError("--%s: %w", flag, err)
	case flag == "at" && at.After(now):
		return at, usageError("--at %s: it is in the future", text)
	}
	return at, nil
}

// A looker answers about the processes of a time.
type looker interface {
	// Tree and Orphans tell those of wire.Facts too that are named.
	Tree(ctx context.Context, facts ...string) (*wire.Tree, error)
	// DrawTree writes the tree as render.Tree draws it.
	DrawTree(ctx context.Context, w io.Writer, opt render.TreeOptions) error
	Orphans(ctx context.Context, facts ...string) ([]wire.Process, error)
	Process(ctx context.Context, pid int32) (*wire.Process, error)
}

// openLooker is openInspector with the time that is asked about: now, unless --at or --history
// name another one. A pid that is not 0 is what the question is about.
func openLooker(ctx context.Context, c *cli.Context, pid int32) (from looker, at time.Time, closer func(), err error) {
	if !asksPast(c) {
		from, closer, err := openInspector(ctx, c)
		return from, time.Now(), closer, err
	}
	if at, err = pastTime(c, "at"); err != nil {
		return nil, at, nil, err
	}
	if c.IsSet("history") {
		archive, err := openArchive(c)
		if err != nil {
			return nil, at, nil, err
		}
		m, err := momentIn(ctx, archive, at, pid)
		if err != nil {
			return nil, at, nil, archive.closeAfter(err)
		}
		return &still{m}, m.Time, func() { notePast(c, m.Notes); archive.close() }, nil
	}
	client, err := reachPast(ctx, c)
	if err != nil {
		return nil, at, nil, err
	}
	remote := client.At(at)
	return remote, at, func() { notePast(c, remote.Notes) }, nil
}

// notePast says how far answers about the past go.
func notePast(c *cli.Context, notes []string) {
	for _, note := range notes {
		fmt.Fprintln(c.App.ErrWriter, "note: "+note)
	}
}

// An archive is a history that was named by --history.
type archive struct {
	*history.Archive
	name string
}

// openArchive opens what --history names.
func openArchive(c *cli.Context) (*archive, error) {
	name := c.String("history")
	if c.Bool("no-daemon") {
		return nil, usageError("%s: --history needs no daemon: --no-daemon cannot stand beside it", c.Command.Name)
	}
	a, err := history.OpenArchive(name)
	if err != nil {
		return nil, err
	}
	for _, err := range a.Skipped {
		fmt.Fprintf(c.App.ErrWriter, "note: a segment cannot be used: %v\n", err)
	}
	return &archive{a, name}, nil
}

func (a *archive) close() { _ = a.Close() }

func (a *archive) closeAfter(err error) error {
	a.close()
	return err
}

// momentIn is the moment of an archive: of its end, where no time is asked for.
func momentIn(ctx context.Context, a *archive, at time.Time, pid int32) (*past.Moment, error) {
	if at.IsZero() {
		_, _, _, at = a.View(history.Stream).Span()
	}
	return past.AtProcess(ctx, a, at, pid)
}

// still is a looker at a moment of an archive.
type still struct{ *past.Moment }

func (s *still) DrawTree(ctx context.Context, w io.Writer, opt render.TreeOptions) error {
	doc, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	return render.Tree(w, doc, opt)
}

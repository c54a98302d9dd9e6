// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/stream"
	"github.com/abot-trace/abot-trace/internal/term"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// An inspector answers what the inspecting commands ask: the daemon, or a look of our
// own.
type inspector interface {
	looker
	Events(ctx context.Context, types []string, since uint64, follow bool, fn func(*wire.Event) error) error
	// Lines is Events as lines of JSON, some at a time.
	Lines(ctx context.Context, types []string, since uint64, follow bool, fn func([]byte) error) error
}

// openInspector returns the daemon behind the socket or, when there is none, a tracer of our
// own that begins now. Close what it returns.
func openInspector(ctx context.Context, c *cli.Context) (inspector, func(), error) {
	client, err := reach(ctx, c)
	if err != nil {
		return nil, nil, explained(err)
	}
	if client != nil {
		return client, func() {}, nil
	}
	own, closer, err := ownInspector(ctx)
	if err != nil {
		return nil, nil, explained(err)
	}
	noteNoDaemon(c)
	return own, closer, nil
}

// ownInspector traces by itself. It knows nothing from before.
func ownInspector(ctx context.Context) (inspector, func(), error) {
	p, err := probe.Open(probe.Options{})
	if err != nil {
		return nil, nil, err
	}
	t := trace.New(p, trace.Options{Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = t.Run(ctx)
	}()
	select {
	case <-t.Filled():
	case <-stopped:
	}
	return &local{t}, func() {
		cancel()
		<-stopped
		_ = p.Close()
	}, nil
}

// local is an inspector that is our own tracer.
type local struct{ *trace.Tracer }

func (l *local) DrawTree(ctx context.Context, w io.Writer, opt render.TreeOptions) error {
	doc, err := l.Tree(ctx)
	if err != nil {
		return err
	}
	return render.Tree(w, doc, opt)
}

func (l *local) Events(ctx context.Context, types []string, since uint64, follow bool, fn func(*wire.Event) error) error {
	var sub *stream.Subscription
	if follow {
		sub = l.Subscribe(types...)
		defer sub.Close()
	}
	past, err := l.Recent(ctx, types, since)
	if err != nil {
		return err
	}
	var last uint64
	for _, e := range past {
		if err := fn(e); err != nil {
			return err
		}
		last = e.Seq
	}
	for follow {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-sub.Events():
			if !ok {
				return nil
			}
			if e.Seq <= last {
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		if missed, since := sub.Missed(); missed > 0 {
			if err := fn(api.Missed(missed, since)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *local) Lines(ctx context.Context, types []string, since uint64, follow bool, fn func([]byte) error) error {
	var line []byte
	return l.Events(ctx, types, since, follow, func(e *wire.Event) error {
		line = wire.AppendEvent(line[:0], e)
		return fn(line)
	})
}

// interruptible returns the command's context, which SIGINT and SIGTERM end.
func interruptible(c *cli.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(c.Context, os.Interrupt, unix.SIGTERM)
}

func colorFlag() cli.Flag {
	return &cli.StringFlag{Name: "color", Value: term.Auto, Usage: "colour `WHEN`: auto, always or never",
		Action: func(_ *cli.Context, mode string) error {
			if err := term.CheckMode(mode); err != nil {
				return usageError("--color: %w", err)
			}
			return nil
		}}
}

func styleOf(c *cli.Context) render.Style {
	style := render.Style{Color: term.Color(c.String("color"), c.App.Writer), Width: term.Width(c.App.Writer)}
	style.Wide = c.String("output") == outputWide
	if list := c.String("columns"); list != "" {
		style.Columns = strings.Split(list, ",")
	}
	return style
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// pidArg returns the one argument, a pid; 0 where there is none.
func pidArg(c *cli.Context) (int32, error) {
	switch c.NArg() {
	case 0:
		return 0, nil
	case 1:
	default:
		return 0, usageError("%s: want at most one PID, got %d arguments", c.Command.Name, c.NArg())
	}
	text := c.Args().First()
	pid, err := strconv.ParseInt(text, 10, 32)
	if err != nil || pid <= 0 {
		return 0, usageError("%s: pid %q: want a positive number", c.Command.Name, text)
	}
	return int32(pid), nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func cursorFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "scope", Value: api.ScopeNotable, Usage: "what a cursor is a place in: `SCOPE` notable, or all"},
		&cli.StringFlag{Name: "cursor", Usage: "events from `CURSOR` on, from the disk: one that a line of --json told, or oldest"},
		&cli.StringFlag{Name: "cursor-file", Usage: "as --cursor, with the cursor of `FILE`, which gets that of each line after it was written"},
	}
}

// startCursor is the cursor that the flags name; false where none is asked for.
func startCursor(c *cli.Context) (cursor string, ok bool, err error) {
	file := c.String("cursor-file")
	if scope := c.String("scope"); scope != api.ScopeNotable && scope != api.ScopeAll {
		return "", false, usageError("--scope %q: want %s or %s", scope, api.ScopeNotable, api.ScopeAll)
	}
	switch {
	case c.IsSet("scope") && !c.IsSet("cursor") && file == "":
		return "", false, usageError("events: --scope wants --cursor or --cursor-file")
	case !c.IsSet("cursor") && file == "":
		return "", false, nil
	case c.IsSet("cursor") && file != "":
		return "", false, usageError("events: --cursor and --cursor-file exclude each other")
	case c.IsSet("since") || c.IsSet("n") || c.IsSet("until") || c.IsSet("history"):
		return "", false, usageError("events: a cursor says where to begin: --since, --until, --history and -n cannot stand beside it")
	case c.Bool("no-daemon"):
		return "", false, usageError("events: a cursor is a daemon's: --no-daemon cannot stand beside it")
	case file == "":
		return c.String("cursor"), true, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return past.FromOldest, true, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("cursor file: %w", err)
	}
	if cursor = strings.TrimSpace(string(text)); cursor == "" {
		return "", false, fmt.Errorf("cursor file %s: is empty", file)
	}
	return cursor, true, nil
}

// showFrom prints the notable events from a cursor on. Whatever ends it, the cursor file never
// stands behind a line that was not written: the next one begins there.
func showFrom(ctx context.Context, c *cli.Context, q *eventQuery, cursor string) error {
	client, err := reach(ctx, c)
	if err != nil {
		return explained(err)
	}
	if client == nil {
		return withHint(errors.New("no daemon runs here, and without one there is no past"), "start it: systemctl start abot-trace")
	}
	file, style, out := c.String("cursor-file"), styleOf(c), rawWriter(c.App.Writer)
	return explained(client.LinesFrom(ctx, cursor, c.String("scope"), q.Types, q.follow, func(lines []byte) error {
		for line := range bytes.Lines(lines) {
			e := new(wire.Event)
			if err := json.Unmarshal(line, e); err != nil {
				return fmt.Errorf("event: %w", err)
			}
			var err error
			switch {
			case e.Type != wire.TypeLost && !q.picks(e):
			case c.Bool("json"):
				_, err = out.Write(line)
			default:
				err = render.Event(c.App.Writer, e, style)
			}
			if err != nil {
				return err
			}
		}
		return saveCursor(file, past.CursorOf(lines))
	}))
}

// saveCursor replaces the file as a whole, or not at all.
func saveCursor(file, cursor string) error {
	if file == "" || cursor == "" {
		return nil
	}
	if err := replaceFile(file, cursor+"\n"); err != nil {
		return fmt.Errorf("cursor file: %w", err)
	}
	return nil
}

// replaceFile writes under another name first. Whatever has that name already, others may
// have put there: it is removed, and no link is followed.
func replaceFile(file, text string) error {
	temporary := file + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}

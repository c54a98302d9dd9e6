// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/term"
)

// watchInterval is how often --watch draws again.
const watchInterval = 2 * time.Second

func noPagerFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-pager", Usage: "print what is long on a terminal as it is, not through a pager (ABOT_TRACE_PAGER, PAGER, less)"}
}

// paged shows what an action prints on a terminal through a pager where it is longer than
// the screen. What goes on without end is printed as it comes.
func paged(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		out, ok := c.App.Writer.(*os.File)
		if !ok || c.Bool("no-pager") || c.Bool("watch") || c.Bool("follow") || !term.IsTerminal(out) {
			return action(c)
		}
		command := term.PagerCommand()
		if len(command) == 0 {
			return action(c)
		}
		pager := term.NewPager(out, command)
		c.App.Writer = pager
		defer func() {
			c.App.Writer = out
			if closeErr := pager.Close(); err == nil && closeErr != nil {
				err = fmt.Errorf("pager: %w", closeErr)
			}
		}()
		if err = action(c); errors.Is(err, term.ErrPagerLeft) {
			err = nil
		}
		return err
	}
}

// watch calls draw now and then every watchInterval until ctx ends; on a terminal each time
// in place of the last and in no more rows than that has.
func watch(ctx context.Context, c *cli.Context, draw func() error) (err error) {
	show := draw
	if out, ok := c.App.Writer.(*os.File); ok && term.IsTerminal(out) {
		screen := term.NewScreen(out)
		c.App.Writer = screen
		defer func() {
			c.App.Writer = out
			err = errors.Join(err, screen.Close())
		}()
		show = func() error {
			if err := draw(); err != nil {
				return err
			}
			return screen.Show()
		}
	}
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if err := show(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// drawAlerts draws what is not well with the daemon and returns in how many lines; none
// where we look by ourselves.
func drawAlerts(ctx context.Context, c *cli.Context, from looker) (lines int, err error) {
	client, ok := from.(*api.Client)
	if !ok {
		return 0, nil
	}
	status, err := client.Status(ctx)
	if err != nil {
		return 0, err
	}
	return render.Alerts(c.App.Writer, &status.Status, styleOf(c))
}

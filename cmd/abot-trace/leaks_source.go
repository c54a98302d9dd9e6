// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leakTimes are what leaks are asked about: one time, or a range; zero is no bound.
type leakTimes struct{ at, since, until time.Time }

func readLeakTimes(c *cli.Context) (t leakTimes, err error) {
	for flag, to := range map[string]*time.Time{"at": &t.at, "since": &t.since, "until": &t.until} {
		if *to, err = pastTime(c, flag); err != nil {
			return t, err
		}
	}
	if !t.at.IsZero() && t.ranged() {
		return t, usageError("leaks: --at asks about one time: neither --since nor --until can stand beside it")
	}
	if c.String("events") != "" && asksPast(c) {
		return t, usageError("leaks: --events has what is to be told: neither --at nor --history can stand beside it")
	}
	return t, nil
}

func (t *leakTimes) ranged() bool { return !t.since.IsZero() || !t.until.IsZero() }

// gatherLeaks asks the daemon, or reads the history or the events that flags name, and
// returns what each leak had cost when, where a range is asked for, and as of when that is.
func gatherLeaks(ctx context.Context, c *cli.Context, id string) (*wire.Leaks, map[string]leak.Course, time.Time, error) {
	t, err := readLeakTimes(c)
	switch {
	case err != nil:
		return nil, nil, t.at, err
	case c.String("events") != "":
		doc, courses, err := readLeaks(c, id)
		return doc, courses, time.Now(), err
	case c.IsSet("history"):
		return leaksIn(ctx, c, t, id)
	}
	client, err := reach(ctx, c)
	if err != nil {
		return nil, nil, t.at, explained(err)
	}
	if client == nil {
		return nil, nil, t.at, withHint(errors.New("no daemon runs here, and without one no leak is known"), "abot-trace orphans takes a look of its own")
	}
	doc, courses, now, err := leaksOf(ctx, c, client, t, id)
	return doc, courses, now, explained(err)
}

// leaksOf asks the daemon.
func leaksOf(ctx context.Context, c *cli.Context, client *api.Client, t leakTimes, id string) (*wire.Leaks, map[string]leak.Course, time.Time, error) {
	switch {
	case !t.at.IsZero():
		remote := client.At(t.at)
		doc, err := remote.Leaks(ctx, id)
		notePast(c, remote.Notes)
		return doc, nil, t.at, err
	case id == "" && !t.ranged() && (!c.Bool("json") || c.String("by") != ""):
		doc, err := client.LeakFigures(ctx)
		return doc, nil, time.Now(), err
	case id != "" || !t.ranged():
		doc, err := client.Leaks(ctx, id)
		return doc, nil, time.Now(), err
	}
	remote := client.Between(t.since, t.until)
	doc, err := remote.Leaks(ctx, "")
	if err != nil {
		return nil, nil, t.at, err
	}
	notePast(c, remote.Notes)
	told := replay.NewLeaks()
	err = client.EventsBetween(ctx, past.Query{To: t.until, Types: []string{wire.TypeLeak}}, told.Apply)
	return doc, told.Courses, time.Now(), err
}

// leaksIn returns the leaks of an archive: as they were at a time, or else until another one.
func leaksIn(ctx context.Context, c *cli.Context, t leakTimes, id string) (*wire.Leaks, map[string]leak.Course, time.Time, error) {
	a, err := openArchive(c)
	if err != nil {
		return nil, nil, t.at, err
	}
	defer a.close()
	doc := &wire.Leaks{Schema: wire.Schema, Leaks: []wire.Leak{}}
	told, now := replay.NewLeaks(), t.at
	if t.at.IsZero() {
		_, _, _, now = a.View(history.Notable).Span()
		var missed uint64
		if missed, err = past.Events(ctx, a, past.Query{To: t.until, Types: []string{wire.TypeLeak}}, told.Apply); missed > 0 {
			notePast(c, []string{fmt.Sprintf("%d notable events could not be read", missed)})
		}
		doc.Leaks = slices.DeleteFunc(told.List(), func(l wire.Leak) bool { return id != "" && l.ID != id })
	} else {
		m, failed := past.At(a, t.at)
		if failed != nil {
			return nil, nil, now, failed
		}
		notePast(c, m.Notes)
		doc.Leaks, err = m.Leaks(ctx, a, id)
	}
	if err == nil && id != "" && len(doc.Leaks) == 0 {
		err = fmt.Errorf("no leak %q is in %s", id, a.name)
	}
	return doc, told.Courses, now, err
}

// readLeaks takes the leaks from recorded events.
func readLeaks(c *cli.Context, id string) (*wire.Leaks, map[string]leak.Course, error) {
	in, closeIn, err := openEvents(c.String("events"))
	if err != nil {
		return nil, nil, err
	}
	defer closeIn()
	read, err := replay.ReadLeaks(in)
	switch {
	case err != nil:
		return nil, nil, err
	case read.Last.IsZero() && read.Unreadable > 0:
		return nil, nil, fmt.Errorf("none of %d lines is an event", read.Unreadable)
	}
	doc := &wire.Leaks{Schema: wire.Schema, Leaks: read.List()}
	if id != "" {
		doc.Leaks = slices.DeleteFunc(doc.Leaks, func(l wire.Leak) bool { return l.ID != id })
		if len(doc.Leaks) == 0 {
			return nil, nil, fmt.Errorf("the events tell of no leak %q", id)
		}
	}
	return doc, read.Courses, nil
}

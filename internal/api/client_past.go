// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Past asks the daemon about the past. It belongs to one goroutine.
type Past struct {
	// Notes say how far the answers go: one sentence each.
	Notes []string

	client *Client
	at     url.Values
}

// At returns who asks about the time t.
func (c *Client) At(t time.Time) *Past {
	return &Past{client: c, at: url.Values{paramAt: {t.Format(time.RFC3339Nano)}}}
}

// Between returns who asks about what was between two times; zero is no bound.
func (c *Client) Between(from, until time.Time) *Past {
	return &Past{client: c, at: timesQuery(from, until)}
}

func timesQuery(from, until time.Time) url.Values {
	q := url.Values{paramFrom: {""}} // also where there is no bound
	for name, t := range map[string]time.Time{paramFrom: from, paramUntil: until} {
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return q
}

// open asks about the past, which may take its time.
func (p *Past) open(ctx context.Context, path string, q url.Values, accept string) (*http.Response, error) {
	maps.Copy(q, p.at)
	req, err := newRequest(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := p.client.sendBy(p.client.http, req, long)
	if err == nil {
		p.Notes = resp.Header[http.CanonicalHeaderKey(NoteHeader)]
	}
	return resp, err
}

func askPast[T any](ctx context.Context, p *Past, path string, q url.Values) (out T, err error) {
	resp, err := p.open(ctx, path, q, "")
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	return decode[T](p.client, resp.Body)
}

// Tree asks for the process tree of then.
func (p *Past) Tree(ctx context.Context, facts ...string) (*wire.Tree, error) {
	return askPast[*wire.Tree](ctx, p, "/v1/tree", factsOr(facts))
}

func factsOr(facts []string) url.Values {
	if q := factsQuery(facts); q != nil {
		return q
	}
	return url.Values{}
}

// DrawTree asks for that tree as [render.Tree] draws it, and writes it to w.
func (p *Past) DrawTree(ctx context.Context, w io.Writer, opt render.TreeOptions) error {
	resp, err := p.open(ctx, "/v1/tree", treeQuery(opt), drawingType)
	if err != nil {
		return err
	}
	return p.client.writeDrawing(w, resp, opt)
}

// Orphans asks for the orphans of then.
func (p *Past) Orphans(ctx context.Context, facts ...string) ([]wire.Process, error) {
	list, err := askPast[[]wire.Process](ctx, p, "/v1/orphans", factsOr(facts))
	return p.client.orphans(list, err)
}

// Process asks for one process of then, living or dead.
func (p *Past) Process(ctx context.Context, pid int32) (*wire.Process, error) {
	return askPast[*wire.Process](ctx, p, "/v1/process", url.Values{"pid": {strconv.Itoa(int(pid))}})
}

// Explain asks what spoke for which verdict on a process then, and which of the rules would
// have applied: the daemon's, or root's own from the file at the absolute path config.
func (p *Past) Explain(ctx context.Context, pid int32, config string) (*wire.Explain, error) {
	q := url.Values{"pid": {strconv.Itoa(int(pid))}}
	if config != "" {
		q.Set("config", config)
	}
	return askPast[*wire.Explain](ctx, p, "/v1/explain", q)
}

// Leaks asks for the leaks of then, or of the range; with an id for that one.
func (p *Past) Leaks(ctx context.Context, id string) (*wire.Leaks, error) {
	q := url.Values{}
	if id != "" {
		q.Set("id", id)
	}
	doc, err := askPast[*wire.Leaks](ctx, p, "/v1/leaks", q)
	return p.client.leaks(doc, err, id)
}

// Export writes what is kept between two times to w, as a tar archive of segments; zero is no
// bound.
func (c *Client) Export(ctx context.Context, from, until time.Time, w io.Writer) error {
	body, err := c.open(ctx, c.stream, http.MethodGet, "/v1/history/export", timesQuery(from, until), nil, long)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return c.unreadable(err)
	}
	return nil
}

// LinesBetween hands the events of a range to fn, as Lines does.
func (c *Client) LinesBetween(ctx context.Context, query past.Query, fn func([]byte) error) error {
	q := eventsQuery(query.Types, false)
	maps.Copy(q, timesQuery(query.From, query.To))
	if query.PID != 0 {
		q.Set("pid", strconv.Itoa(int(query.PID)))
	}
	if query.Samples {
		q.Set("samples", "1")
	}
	return c.lines(ctx, q, long, fn)
}

// EventsBetween hands the events of a range to fn, one by one.
func (c *Client) EventsBetween(ctx context.Context, query past.Query, fn func(*wire.Event) error) error {
	return c.LinesBetween(ctx, query, c.eachEvent(fn))
}

// LinesFrom hands the events of a scope from a cursor on, which are kept on disk, to fn, as Lines
// does: each begins with the cursor of what follows it. However slow fn is, it gets all that is
// kept.
func (c *Client) LinesFrom(ctx context.Context, cursor, scope string, types []string, follow bool, fn func([]byte) error) error {
	q := eventsQuery(types, follow)
	q.Set("cursor", cursor)
	q.Set("scope", scope)
	return c.lines(ctx, q, streamed, fn)
}

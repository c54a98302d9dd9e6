// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/inspect"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// drawingType is what GET /v1/tree is asked to accept by those who want the tree drawn.
const drawingType = "text/plain"

// drawTree answers with the tree as [render.Tree] draws it: its text is smaller than the
// document that it is made of, and takes a fraction of the time.
func (s *Server) drawTree(w http.ResponseWriter, r *http.Request) error {
	opt, err := treeOptions(r)
	if err != nil {
		return err
	}
	from, release, err := s.looker(w, r, opt.Root)
	if err != nil {
		return err
	}
	defer release()
	snapshot, err := from.TreeSnapshot(r.Context())
	if err != nil {
		return err
	}
	text, err := draw(snapshot, opt)
	if err != nil {
		return err
	}
	s.send(w, drawingType+"; charset=utf-8", text)
	return nil
}

// draw does what it can while the kernel is asked for the memory.
func draw(snapshot *inspect.TreeSnapshot, opt render.TreeOptions) ([]byte, error) {
	drawing := render.NewDrawing(snapshot.Time(), snapshot.Len(), opt)
	snapshot.Each(drawing.Add)
	if err := snapshot.EachMemory(drawing.SetMemory); err != nil {
		return nil, err
	}
	text, err := drawing.Append(nil, snapshot.Complete())
	if err != nil {
		return nil, &StatusError{http.StatusNotFound, err.Error()}
	}
	return text, nil
}

// Parameters of a drawing; the pid is PIDParam's.
const (
	paramKernel  = "kernel"
	paramOrphans = "orphans"
	paramThreads = "threads"
	paramFold    = "fold"
	paramRows    = "rows"
	paramColor   = "color"
	paramWidth   = "width"
)

func treeQuery(opt render.TreeOptions) url.Values {
	q := url.Values{}
	for name, on := range map[string]bool{paramKernel: opt.Kernel, paramOrphans: opt.Orphans,
		paramThreads: opt.Threads, paramFold: opt.Fold, paramColor: opt.Color} {
		if on {
			q.Set(name, "1")
		}
	}
	for name, n := range map[string]int{paramWidth: opt.Width, paramRows: opt.Rows} {
		if n > 0 {
			q.Set(name, strconv.Itoa(n))
		}
	}
	if opt.Root != 0 {
		q.Set("pid", strconv.Itoa(int(opt.Root)))
	}
	return q
}

func treeOptions(r *http.Request) (opt render.TreeOptions, err error) {
	q := r.URL.Query()
	opt.Kernel, opt.Orphans = q.Get(paramKernel) == "1", q.Get(paramOrphans) == "1"
	opt.Threads, opt.Color = q.Get(paramThreads) == "1", q.Get(paramColor) == "1"
	opt.Fold = q.Get(paramFold) == "1"
	for name, n := range map[string]*int{paramWidth: &opt.Width, paramRows: &opt.Rows} {
		if text := q.Get(name); text != "" {
			if *n, err = strconv.Atoi(text); err != nil || *n < 0 {
				return opt, &StatusError{http.StatusBadRequest, fmt.Sprintf("%s %q: want a number of 0 or more", name, text)}
			}
		}
	}
	if q.Has("pid") {
		opt.Root, err = PIDParam(r)
	}
	return opt, err
}

// DrawTree asks for the tree as [render.Tree] draws it, and writes it to w as a whole. A
// daemon that is older and does not draw is asked for the document.
func (c *Client) DrawTree(ctx context.Context, w io.Writer, opt render.TreeOptions) error {
	req, err := newRequest(ctx, http.MethodGet, "/v1/tree", treeQuery(opt), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", drawingType)
	resp, err := c.sendBy(c.http, req, brief)
	if err != nil {
		return err
	}
	return c.writeDrawing(w, resp, opt)
}

// writeDrawing writes the drawing that an answer is, or makes it of the document of a daemon that
// does not draw.
func (c *Client) writeDrawing(w io.Writer, resp *http.Response, opt render.TreeOptions) error {
	defer resp.Body.Close()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), drawingType) {
		doc, err := decode[*wire.Tree](c, resp.Body)
		if err != nil {
			return err
		}
		return render.Tree(w, doc, opt)
	}
	// All of it first: who reads w may take any time, and the daemon does not wait.
	if resp.ContentLength > c.maxAnswer {
		return c.tooLong()
	}
	text := make([]byte, max(resp.ContentLength, 0))
	if _, err := io.ReadFull(resp.Body, text); err != nil {
		return c.unreadable(err)
	}
	_, err := w.Write(text)
	return err
}

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// ErrNoDaemon says that nobody serves the socket.
var ErrNoDaemon = errors.New("no daemon")

// A Client asks the daemon. It is safe for concurrent use. No call waits for a daemon
// that says nothing: it fails with an [UnansweredError].
type Client struct {
	// Patience is how long the daemon may say nothing, [DefaultPatience] at first. It is
	// set before the first call.
	Patience time.Duration

	socket    string
	maxAnswer int64 // in bytes
	http      *http.Client
	stream    *http.Client
	reached   atomic.Pointer[net.Conn] // for the next request
}

// NewClient returns a client of the daemon behind the socket.
func NewClient(socket string) *Client {
	c := &Client{socket: socket, Patience: DefaultPatience, maxAnswer: maxAnswer}
	c.http, c.stream = c.newHTTP(0), c.newHTTP(streamBuffer)
	return c
}

// streamBuffer is how much of a stream is read at once: what the daemon writes at once.
// With less, each portion would take a read for its first part and one for the rest, and
// what follows it two writes.
const streamBuffer = 2 * portion

// newHTTP returns a client that reads buffer bytes at once, 0 is the library's choice.
func (c *Client) newHTTP(buffer int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if conn := c.reached.Swap(nil); conn != nil {
				return *conn, nil
			}
			return c.dial(ctx)
		},
		DisableCompression: true,
		ReadBufferSize:     buffer,
	}}
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, err
	}
	return newRawConn(conn)
}

// Reach connects, and returns ErrNoDaemon where nobody serves the socket. The connection
// is for the first request, which is to follow at once.
func (c *Client) Reach(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return c.explain(ctx, err)
	}
	if before := c.reached.Swap(&conn); before != nil {
		_ = (*before).Close()
	}
	return nil
}

// Tree asks for the process tree, with those of [wire.Facts] that are named.
func (c *Client) Tree(ctx context.Context, facts ...string) (*wire.Tree, error) {
	return get[*wire.Tree](ctx, c, "/v1/tree", factsQuery(facts))
}

// Orphans asks for the living orphans, with those of [wire.Facts] that are named. Each of
// them has an Orphan.
func (c *Client) Orphans(ctx context.Context, facts ...string) ([]wire.Process, error) {
	list, err := get[[]wire.Process](ctx, c, "/v1/orphans", factsQuery(facts))
	return c.orphans(list, err)
}

func factsQuery(facts []string) url.Values {
	if len(facts) == 0 {
		return nil
	}
	return url.Values{"facts": {strings.Join(facts, ",")}}
}

// Process asks for one process, living or dead.
func (c *Client) Process(ctx context.Context, pid int32) (*wire.Process, error) {
	return get[*wire.Process](ctx, c, "/v1/process", url.Values{"pid": {strconv.Itoa(int(pid))}})
}

// Status asks for the daemon's figures.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[*Status](ctx, c, "/v1/status", nil)
}

// Events calls fn for each remembered event of the types named (all, when there are
// none) since the CLOCK_BOOTTIME instant, and with follow for each that comes, until
// ctx ends, fn fails or the daemon stops. The event is fn's to keep.
func (c *Client) Events(ctx context.Context, types []string, since uint64, follow bool, fn func(*wire.Event) error) error {
	return c.Lines(ctx, types, since, follow, c.eachEvent(fn))
}

// eachEvent takes lines, and hands the events that they are to fn.
func (c *Client) eachEvent(fn func(*wire.Event) error) func([]byte) error {
	return func(lines []byte) error {
		for line := range bytes.Lines(lines) {
			e := new(wire.Event)
			if err := jsonv2.Unmarshal(line, e); err != nil {
				return fmt.Errorf("read events from %s: %w", c.socket, err)
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	}
}

// Lines is Events for those who want the daemon's JSON as it is: fn gets one or more
// whole lines, which are valid during the call only.
func (c *Client) Lines(ctx context.Context, types []string, since uint64, follow bool, fn func([]byte) error) error {
	q := eventsQuery(types, follow)
	q.Set("since", strconv.FormatUint(since, 10))
	return c.lines(ctx, q, streamed, fn)
}

// eventsQuery asks for events of these types, all where there are none.
func eventsQuery(types []string, follow bool) url.Values {
	q := url.Values{}
	if len(types) > 0 {
		q.Set("types", strings.Join(types, ","))
	}
	if follow {
		q.Set("follow", "1")
	}
	return q
}

// lines hands whole lines of events to fn.
func (c *Client) lines(ctx context.Context, q url.Values, l length, fn func([]byte) error) error {
	body, err := c.open(ctx, c.stream, http.MethodGet, "/v1/events", q, nil, l)
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, 0, streamBuffer)
	for {
		if len(buf) == cap(buf) {
			if len(buf) >= maxLine {
				return fmt.Errorf("read events from %s: a line of more than %d bytes", c.socket, maxLine)
			}
			buf = slices.Grow(buf, cap(buf))
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if end := bytes.LastIndexByte(buf, '\n') + 1; end > 0 {
			if err := fn(buf[:end]); err != nil {
				return err
			}
			buf = buf[:copy(buf, buf[end:])]
		}
		var silent *UnansweredError
		switch {
		case ctx.Err() != nil || errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &silent):
			return silent
		case err != nil:
			return fmt.Errorf("read events from %s: %w", c.socket, err)
		}
	}
}

// maxLine is far more than any event takes.
const maxLine = 16 << 20

// get asks for one document.
func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	return Call[T](ctx, c, http.MethodGet, path, q, nil)
}

// Call sends a request with a JSON body, where there is one, and decodes the answer.
func Call[T any](ctx context.Context, c *Client, method, path string, q url.Values, in any) (T, error) {
	return call[T](ctx, c, method, path, q, in, brief)
}

func call[T any](ctx context.Context, c *Client, method, path string, q url.Values, in any, l length) (out T, err error) {
	body, err := c.open(ctx, c.http, method, path, q, in, l)
	if err != nil {
		return out, err
	}
	defer body.Close()
	return decode[T](c, body)
}

// open sends a request and returns the body of a good answer.
func (c *Client) open(ctx context.Context, by *http.Client, method, path string, q url.Values, in any, l length) (io.ReadCloser, error) {
	req, err := newRequest(ctx, method, path, q, in)
	if err != nil {
		return nil, err
	}
	resp, err := c.sendBy(by, req, l)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func newRequest(ctx context.Context, method, path string, q url.Values, in any) (*http.Request, error) {
	var payload io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	u := url.URL{Scheme: "http", Host: "abot-trace", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	return req, nil
}

// explain tells the absence of a daemon from other troubles with the socket.
func (c *Client) explain(ctx context.Context, err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	if isHangup(err) && c.deserted(ctx) {
		return fmt.Errorf("%w at %s any more", ErrNoDaemon, c.socket)
	}
	switch {
	case noListener(err):
		return fmt.Errorf("%w at %s", ErrNoDaemon, c.socket)
	case errors.Is(err, unix.EAGAIN): // connect(2): the backlog is full
		return &UnansweredError{Socket: c.socket, Request: "a connection"}
	default:
		return fmt.Errorf("socket %s: %w", c.socket, err)
	}
}

// noListener reports whether a connection failed because nobody listens.
func noListener(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

// isHangup reports whether an exchange failed because the other side closed the connection.
func isHangup(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// deserted reports whether nobody listens any more. A connection that a daemon took with
// it when it died is hung up after its listener is closed (unix_release_sock in
// net/unix/af_unix.c), so that who asks after the one sees the other.
func (c *Client) deserted(ctx context.Context) bool {
	conn, err := c.dial(ctx)
	if err != nil {
		return noListener(err)
	}
	_ = conn.Close()
	return false
}

// CleanupRequest is the body of POST /v1/cleanup.
type CleanupRequest struct {
	// Enforce carries out what armed rules decide; else all is only observed.
	Enforce bool `json:"enforce"`
	// Config is a configuration to use for this pass instead of the daemon's, by its
	// path. Root only.
	Config string `json:"config,omitempty"`
}

// Cleanup asks for one pass of the rules. It takes as long as the pass does.
func (c *Client) Cleanup(ctx context.Context, req CleanupRequest) ([]wire.Kill, error) {
	return call[[]wire.Kill](ctx, c, http.MethodPost, "/v1/cleanup", nil, req, long)
}

// KillRequest is the body of POST /v1/kill.
type KillRequest struct {
	// PID and StartNS name a process: a living one, or a dead one whose leak is meant. Only
	// a DryRun does without StartNS.
	PID     int32  `json:"pid,omitempty"`
	StartNS uint64 `json:"start_ns,omitempty"`
	Leak    string `json:"leak,omitempty"` // the id of a leak, instead of a process
	Scope   string `json:"scope,omitempty"`
	Signal  string `json:"signal,omitempty"` // the first; SIGTERM if empty
	// GraceSeconds is the time until SIGKILL; nil is DefaultGrace.
	GraceSeconds *float64 `json:"grace_seconds,omitempty"`
	// DryRun answers with a wire.KillPlan, and signals nobody.
	DryRun bool `json:"dry_run,omitempty"`
	// DespiteStopFile carries it out although somebody has called off all kills.
	DespiteStopFile bool `json:"despite_stop_file,omitempty"`
}

// DefaultGrace is the grace of a kill that does not bring its own.
const DefaultGrace = 10 * time.Second

// PlanKill asks whom a kill would end.
func (c *Client) PlanKill(ctx context.Context, req KillRequest) (*wire.KillPlan, error) {
	req.DryRun = true
	return Call[*wire.KillPlan](ctx, c, http.MethodPost, "/v1/kill", nil, req)
}

// Kill asks for a kill. It takes as long as that takes: the grace and some more.
func (c *Client) Kill(ctx context.Context, req KillRequest) (*wire.Kill, error) {
	return call[*wire.Kill](ctx, c, http.MethodPost, "/v1/kill", nil, req, long)
}

// Explain asks what speaks for which verdict on a process, and which rules apply: the
// daemon's, or root's own from the file at the absolute path config, unless that is empty.
func (c *Client) Explain(ctx context.Context, pid int32, config string) (*wire.Explain, error) {
	q := url.Values{"pid": {strconv.Itoa(int(pid))}}
	if config != "" {
		q.Set("config", config)
	}
	return get[*wire.Explain](ctx, c, "/v1/explain", q)
}

// LeakFigures is Leaks without the members and the evidence, which take most of the time where
// there are many.
func (c *Client) LeakFigures(ctx context.Context) (*wire.Leaks, error) {
	return get[*wire.Leaks](ctx, c, "/v1/leaks", url.Values{"members": {"0"}})
}

// Leaks asks for the open leaks and those that are remembered; with an id for that one, which
// is all of the answer.
func (c *Client) Leaks(ctx context.Context, id string) (*wire.Leaks, error) {
	q := url.Values{}
	if id != "" {
		q.Set("id", id)
	}
	doc, err := get[*wire.Leaks](ctx, c, "/v1/leaks", q)
	return c.leaks(doc, err, id)
}

// Monitor asks for the host's figures against the thresholds, as last measured.
func (c *Client) Monitor(ctx context.Context) (*wire.Monitor, error) {
	return get[*wire.Monitor](ctx, c, "/v1/monitor", nil)
}

// SPDX-License-Identifier: Apache-2.0

// Package api is the daemon's unix socket: HTTP with JSON, open to root, the daemon's
// own user and one group. Everyone else can do no more than take a lease on
// processes of its own.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/inspect"
	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/stream"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// DefaultSocket is where the daemon listens.
const DefaultSocket = "/run/abot-trace/abot-trace.sock"

// Backend answers the questions. *trace.Tracer is one; its methods are safe for
// concurrent use.
type Backend interface {
	Looker
	Recent(ctx context.Context, types []string, since uint64) ([]*wire.Event, error)
	Follow(ctx context.Context, types []string, since uint64, news func()) ([]*wire.Event, *stream.Lines, error)
	Stats() trace.Stats
}

// A Looker answers about a tree: that of now, or of a moment of the past.
type Looker interface {
	Tree(ctx context.Context, facts ...string) (*wire.Tree, error)
	TreeSnapshot(context.Context) (*inspect.TreeSnapshot, error)
	Orphans(ctx context.Context, facts ...string) ([]wire.Process, error)
	Process(ctx context.Context, pid int32) (*wire.Process, error)
}

// Limits on what clients can hold.
const (
	requestTimeout = 10 * time.Second // for the head of a request
	// answerTimeout is how long a peer may take for the body of a request, and for each
	// portion of an answer.
	answerTimeout = 10 * time.Second
	answerPortion = 1 << 20
)

// A Server serves the socket.
type Server struct {
	// Conditions, unless nil, says what the daemon cannot do at present, one sentence
	// each. It may be called from any goroutine; it is set before Serve.
	Conditions func() []string
	// StopFile, unless nil, tells of the daemon's stop file; nil is that it has none. The
	// same holds for it.
	StopFile func() *wire.Stop

	// Status, unless nil, gathers the document of `status --json`.
	Status func(context.Context) (*wire.Status, error)
	// Config is the path of the daemon's configuration, empty where it has none. It is set
	// before Serve.
	Config string

	// Past, unless nil, hands the lines of the notable events, or of all, from a cursor on to
	// write, and with follow goes on until ctx ends. The same holds for it. An error of write is
	// its own.
	Past func(ctx context.Context, cursor string, all bool, types []string, follow bool, write func([]byte) error) error

	// Moment, unless nil, makes the tree as it was at a time: the moment of a process with that
	// pid, unless that is 0. Whoever has it calls release. The same holds for it.
	Moment func(ctx context.Context, at time.Time, pid int32) (m *past.Moment, release func(), err error)
	// Range, unless nil, hands the lines of the events that a query asks for to write. The
	// same holds for it. An error of write is its own.
	Range func(ctx context.Context, q past.Query, write func([]byte) error) error

	backend Backend
	log     *slog.Logger
	gid     int    // of the group that may ask; -1 for none
	readers string // who they are, for messages
	mux     *http.ServeMux
	limit   *limiter
	stall   time.Duration // answerTimeout, but in tests
	// answering is held, shared, by each request that is being answered, those too whose
	// connection http.Server has handed over, and for good by a server that has ended.
	answering sync.RWMutex
	past      atomic.Int64 // bytes of the past that wait for their readers
}

// NewServer returns a server. group, by name or number, may ask what root may; the
// empty string is nobody.
func NewServer(backend Backend, group string, log *slog.Logger) (*Server, error) {
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	s := &Server{backend: backend, log: log, gid: gid, readers: readers(gid), mux: http.NewServeMux(), limit: newLimiter(), stall: answerTimeout}
	s.Handle("GET /v1/tree", s.tree)
	s.Handle("GET /v1/orphans", s.orphans)
	s.Handle("GET /v1/process", s.process)
	s.Handle("GET /v1/events", s.events)
	s.Handle("GET /v1/status", s.status)
	return s, nil
}

// CheckGroup returns an error where a group that may ask, by name or number, does not
// exist.
func CheckGroup(group string) error {
	_, err := groupID(group)
	return err
}

func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(group); err == nil && n >= 0 {
		return n, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return -1, fmt.Errorf("socket group: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// A HandlerFunc answers one request; an error becomes the answer.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// Handle adds an endpoint for those who may ask everything.
func (s *Server) Handle(pattern string, fn HandlerFunc) {
	s.HandleAny(pattern, func(w http.ResponseWriter, r *http.Request) error {
		if !s.trusted(PeerOf(r.Context())) {
			return &StatusError{http.StatusForbidden, "permission denied: only " + s.readers + " may ask this"}
		}
		return fn(w, r)
	})
}

// readers names those who may ask everything.
func readers(gid int) string {
	if gid < 0 {
		return "root"
	}
	name := strconv.Itoa(gid)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	return "root and the members of group " + name
}

// HandleAny adds an endpoint for everyone, which decides by PeerOf.
func (s *Server) HandleAny(pattern string, fn HandlerFunc) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := fn(w, r); err != nil {
			writeError(w, err)
		}
	})
}

// A StatusError is an answer other than 200.
type StatusError struct {
	Code int
	Text string
}

// Forbidden reports whether the daemon refuses because of who asks.
func (e *StatusError) Forbidden() bool { return e.Code == http.StatusForbidden }

func (e *StatusError) Error() string { return e.Text }

func writeError(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	var status *StatusError
	switch {
	case errors.As(err, &status):
		code = status.Code
	case errors.Is(err, inspect.ErrNoProcess):
		code = http.StatusNotFound
	case errors.Is(err, trace.ErrStopped):
		code = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

// WriteJSON answers with v. It waits for a reader that takes nothing no longer than an
// answer may take.
func WriteJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", jsonType)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	return json.NewEncoder(w).Encode(v)
}

// Serve answers on l until ctx ends. When it returns, no request is being answered any
// more. It is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.admit(s.mux),
		ReadHeaderTimeout: requestTimeout,
		IdleTimeout:       requestTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(*limitedConn).peer)
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	})
	defer stop()
	defer s.answering.Lock()
	err := server.Serve(&limitedListener{l, s})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// admit has a request wait for its user's turn, and its body not be waited for for ever,
// which http.Server does at the end of a request as well.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.answering.TryRLock() {
			writeError(w, trace.ErrStopped)
			return
		}
		defer s.answering.RUnlock()
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.stall))
		}
		peer := PeerOf(r.Context())
		if s.limit.wait(r.Context(), peer.UID, s.rank(peer)) {
			next.ServeHTTP(w, r)
		}
	})
}

// events streams NDJSON: what is remembered since an instant, then, with follow, what
// comes. A reader that is too slow misses events, and gets a lost event that says how
// many.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var types []string
	if t := q.Get("types"); t != "" {
		types = strings.Split(t, ",")
	}
	if err := CheckTypes(types); err != nil {
		return &StatusError{http.StatusBadRequest, err.Error()}
	}
	since, err := sinceParam(q.Get("since"))
	if err != nil {
		return err
	}
	switch {
	case q.Get("cursor") != "":
		return s.pastEvents(w, r, types)
	case q.Has("from") || q.Has("until") || q.Has("pid"):
		return s.rangeEvents(w, r, types)
	}
	if q.Get("follow") == "1" {
		return s.follow(w, r, types, since)
	}
	past, err := s.backend.Recent(r.Context(), types, since)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", eventsType)
	var line []byte
	deadline := http.NewResponseController(w)
	for i, e := range past {
		if i%256 == 0 {
			_ = deadline.SetWriteDeadline(time.Now().Add(s.stall))
		}
		line = wire.AppendEvent(line[:0], e)
		if _, err := w.Write(line); err != nil {
			return nil // the reader left
		}
	}
	return nil
}

const eventsType = "application/x-ndjson"

// sinceParam reads an instant in CLOCK_BOOTTIME ns; empty is the beginning.
func sinceParam(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	since, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &StatusError{http.StatusBadRequest, fmt.Sprintf("since %q: want nanoseconds since boot", text)}
	}
	return since, nil
}

// Missed is the event that tells one slow reader how many events it missed, and since
// when (CLOCK_BOOTTIME ns). It has no id: it is nobody else's.
func Missed(count, since uint64) *wire.Event {
	return &wire.Event{Schema: wire.Schema, Type: wire.TypeLost, Time: time.Now(), TimeNS: boottime.Now(),
		Lost: &wire.Lost{Records: count, SinceNS: since}}
}

// CheckTypes returns an error that names the first unknown event type.
func CheckTypes(types []string) error {
	for _, t := range types {
		if !slices.Contains(wire.Types, t) {
			return fmt.Errorf("event type %q%s: want one of %s", t, nearest.Hint(t, wire.Types...), strings.Join(wire.Types, ", "))
		}
	}
	return nil
}

// trusted reports whether the peer may ask everything.
func (s *Server) trusted(p Peer) bool {
	if p.UID == 0 || p.UID == uint32(os.Geteuid()) {
		return true
	}
	if s.gid < 0 {
		return false
	}
	if p.GID == uint32(s.gid) {
		return true
	}
	for _, g := range p.Groups {
		if g == uint32(s.gid) {
			return true
		}
	}
	return false
}

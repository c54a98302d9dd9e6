// SPDX-License-Identifier: Apache-2.0

// Package api is the daemon's unix socket: HTTP with JSON, open to root, the daemon's
// own user and one group. Everyone else can do no more than take a lease on
// processes of its own.
package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/inspect"
	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/stream"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// DefaultSocket is where the daemon listens.
const DefaultSocket = "/run/abot-trace/abot-trace.sock"

// Backend answers the questions. *trace.Tracer is one; its methods are safe for
// concurrent use.
type Backend interface {
	Tree(context.Context) (*wire.Tree, error)
	TreeSnapshot(context.Context) (*inspect.TreeSnapshot, error)
	Orphans(context.Context) ([]wire.Process, error)
	Process(ctx context.Context, pid int32) (*wire.Process, error)
	Recent(ctx context.Context, types []string, since uint64) ([]*wire.Event, error)
	Follow(ctx context.Context, types []string, since uint64, news func()) ([]*wire.Event, *stream.Lines, error)
	Stats() trace.Stats
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

// Listen makes the socket, and its directory where it is missing. A socket that a dead
// daemon left is replaced; a living one is an error. The way to the directory is root's
// or this user's; the directory itself may belong to another daemon's user, but nobody
// else can replace what is in it.
func Listen(path string) (net.Listener, error) {
	dir, err := rootfile.Own.ForeignDir(filepath.Dir(path), 0o755)
	if err != nil {
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	defer dir.Close()
	if shared, err := dir.Shared(); err != nil || shared {
		return nil, fmt.Errorf("socket directory: %w", cmp.Or(err,
			fmt.Errorf("%s can be written by others than its owner: chmod go-w %[1]s", dir.Path())))
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		peer, _ := peerOf(conn)
		_ = conn.Close()
		return nil, fmt.Errorf("socket %s: another daemon serves it (pid %d)", path, peer.PID)
	}
	name := filepath.Base(path)
	if mode, err := dir.Mode(name); err == nil {
		if mode&os.ModeSocket == 0 {
			return nil, fmt.Errorf("socket %s: something else is there: %s", path, mode.Type())
		}
		if err := dir.Remove(name); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	}
	return listenForAll(path)
}

// listenForAll makes a socket that everyone may connect to: who may ask what is decided
// by the peer's credentials, and leases are for everyone. The mode is the socket's from
// the start (unix_bind in net/unix/af_unix.c takes it over, less the umask): one that
// was given to a path afterwards could be given to something else.
func listenForAll(path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o666) })
		return cmp.Or(err, failed)
	}}
	old := unix.Umask(0)
	defer unix.Umask(old)
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
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

// maxBody bounds the body of a request.
const maxBody = 64 << 10

// ReadJSON reads the body of a request, which is v and nothing else. It waits for no
// longer than a request may take to come.
func ReadJSON(w http.ResponseWriter, r *http.Request, v any) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		// The answer may take its time: a cleanup does.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		err = dec.Decode(v)
	}
	if err != nil {
		return &StatusError{http.StatusBadRequest, fmt.Sprintf("request: %v", err)}
	}
	return nil
}

func (s *Server) tree(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Accept") == drawingType {
		return s.drawTree(w, r)
	}
	doc, err := s.backend.Tree(r.Context())
	if err != nil {
		return err
	}
	text := wire.AppendTree(make([]byte, 0, 600*len(doc.Processes)), doc)
	s.send(w, jsonType, append(text, '\n'))
	return nil
}

func (s *Server) orphans(w http.ResponseWriter, r *http.Request) error {
	list, err := s.backend.Orphans(r.Context())
	if err != nil {
		return err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	s.send(w, jsonType, append(text, '\n'))
	return nil
}

const jsonType = "application/json"

// send answers with what may be large. A reader that takes nothing is left: the answer
// would stay in memory as long as it likes. The deadline ends with the request.
func (s *Server) send(w http.ResponseWriter, contentType string, text []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	deadline := http.NewResponseController(w)
	for portion := range slices.Chunk(text, answerPortion) {
		_ = deadline.SetWriteDeadline(time.Now().Add(s.stall))
		if _, err := w.Write(portion); err != nil {
			return // the reader left, or was left
		}
	}
}

// PIDParam returns the request's pid.
func PIDParam(r *http.Request) (int32, error) {
	text := r.URL.Query().Get("pid")
	pid, err := strconv.ParseInt(text, 10, 32)
	if err != nil || pid <= 0 {
		return 0, &StatusError{http.StatusBadRequest, fmt.Sprintf("pid %q: want a positive number", text)}
	}
	return int32(pid), nil
}

func (s *Server) process(w http.ResponseWriter, r *http.Request) error {
	pid, err := PIDParam(r)
	if err != nil {
		return err
	}
	p, err := s.backend.Process(r.Context(), pid)
	if err != nil {
		return err
	}
	return WriteJSON(w, p)
}

// Status is what GET /v1/status answers.
type Status struct {
	PID        int               `json:"pid"`
	Events     map[string]uint64 `json:"events"`
	Living     int               `json:"living"`
	Dead       int               `json:"dead"`
	Orphans    int               `json:"orphans"`
	Refused    uint64            `json:"refused"`
	CanarySeen *time.Time        `json:"canary_seen,omitempty"`
	Conditions []string          `json:"troubles,omitempty"` // what it cannot do at present
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	st := s.backend.Stats()
	out := Status{PID: os.Getpid(), Events: st.Events, Living: st.Living, Dead: st.Dead,
		Orphans: st.Orphans, Refused: st.Refused}
	if !st.CanarySeen.IsZero() {
		out.CanarySeen = &st.CanarySeen
	}
	if s.Conditions != nil {
		out.Conditions = s.Conditions()
	}
	return WriteJSON(w, out)
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

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// pastPatience is how long a reader of the past may take nothing. It loses nothing when it is
// left: it comes again with its cursor.
const pastPatience = time.Minute

var errReaderLeft = errors.New("the reader left")

// What a cursor is a place in: the notable events, or all.
const (
	ScopeNotable = "notable"
	ScopeAll     = "all"
)

// pastEvents streams notable events, or all, from the disk, from a cursor on. However slow a reader is,
// it gets all that is kept.
func (s *Server) pastEvents(w http.ResponseWriter, r *http.Request, types []string) error {
	q := r.URL.Query()
	switch scope := q.Get("scope"); {
	case s.Past == nil:
		return &StatusError{http.StatusNotFound, "the daemon keeps no history: no cursor names a place in it"}
	case scope != "" && scope != ScopeNotable && scope != ScopeAll:
		return &StatusError{http.StatusBadRequest, fmt.Sprintf("scope %q: want %s or %s", scope, ScopeNotable, ScopeAll)}
	case q.Get("since") != "" && q.Get("since") != "0":
		return &StatusError{http.StatusBadRequest, "a cursor says since when: since cannot stand beside it"}
	}
	out := NewStreamWriter(w, eventsType)
	err := s.Past(r.Context(), q.Get("cursor"), q.Get("scope") == ScopeAll, types, q.Get("follow") == "1", out.lines)
	return out.End(err)
}

// A StreamWriter answers with what comes some at a time. It waits for a reader that takes
// nothing for pastPatience.
type StreamWriter struct {
	w           http.ResponseWriter
	deadline    *http.ResponseController
	contentType string
	begun       bool
}

// NewStreamWriter returns a writer of an answer of that type.
func NewStreamWriter(w http.ResponseWriter, contentType string) *StreamWriter {
	return &StreamWriter{w: w, deadline: http.NewResponseController(w), contentType: contentType}
}

func (l *StreamWriter) begin() {
	if !l.begun {
		l.w.Header().Set("Content-Type", l.contentType)
		l.begun = true
	}
}

// Write implements io.Writer.
func (l *StreamWriter) Write(b []byte) (int, error) {
	l.begin()
	_ = l.deadline.SetWriteDeadline(time.Now().Add(pastPatience))
	if _, err := l.w.Write(b); err != nil {
		return 0, errReaderLeft
	}
	if l.deadline.Flush() != nil {
		return 0, errReaderLeft
	}
	return len(b), nil
}

func (l *StreamWriter) lines(b []byte) error {
	_, err := l.Write(b)
	return err
}

// End ends the answer with what came of it. Where a part was written already an error cannot
// be told any more, and the answer breaks off.
func (l *StreamWriter) End(err error) error {
	switch {
	case err == nil:
		l.begin()
		return nil
	case l.begun:
		panic(http.ErrAbortHandler)
	}
	return err
}

// paramAt, paramFrom and paramUntil are times of the past, RFC 3339.
const (
	paramAt    = "at"
	paramFrom  = "from"
	paramUntil = "until"
)

// NoteHeader has in an answer about the past what is to be said of how far it goes, one
// sentence each.
const NoteHeader = "Abot-Trace-Note"

var errNoHistory = &StatusError{http.StatusNotFound, "the daemon keeps no history: it cannot be asked about the past"}

// RangeParams returns the times that from and until name; zero where there is none.
func RangeParams(r *http.Request) (from, until time.Time, err error) {
	if from, err = timeParam(r, paramFrom); err == nil {
		until, err = timeParam(r, paramUntil)
	}
	return from, until, err
}

// timeParam returns the time that a parameter names; zero where there is none.
func timeParam(r *http.Request, name string) (time.Time, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, &StatusError{http.StatusBadRequest, fmt.Sprintf("%s %q: want a time as 2026-01-31T15:04:05Z", name, text)}
	}
	return t, nil
}

// looker returns who answers a request: the tracer, or the past at the time that is asked
// about. Whoever has it calls release.
func (s *Server) looker(w http.ResponseWriter, r *http.Request, pid int32) (from Looker, release func(), err error) {
	if !r.URL.Query().Has(paramAt) {
		return s.backend, func() {}, nil
	}
	m, release, err := s.AtMoment(w, r, pid)
	return m, release, err
}

// AtMoment makes the tree as it was at the time that a request asks about, and notes in the
// answer how far that goes. Whoever has it calls release.
func (s *Server) AtMoment(w http.ResponseWriter, r *http.Request, pid int32) (m *past.Moment, release func(), err error) {
	at, err := timeParam(r, paramAt)
	switch {
	case err != nil:
		return nil, nil, err
	case s.Moment == nil:
		return nil, nil, errNoHistory
	}
	m, release, err = s.Moment(r.Context(), at, pid)
	if err != nil {
		return nil, nil, err
	}
	for _, note := range m.Notes {
		w.Header().Add(NoteHeader, note)
	}
	return m, release, nil
}

// rangeEvents streams the events of a range, or about one pid.
func (s *Server) rangeEvents(w http.ResponseWriter, r *http.Request, types []string) (err error) {
	q := past.Query{Types: types}
	if q.From, q.To, err = RangeParams(r); err != nil {
		return err
	}
	if r.URL.Query().Has("pid") {
		if q.PID, err = PIDParam(r); err != nil {
			return err
		}
	}
	q.Samples = r.URL.Query().Get("samples") == "1"
	out := NewStreamWriter(w, eventsType)
	if s.Range == nil {
		w.Header().Add(NoteHeader, "the daemon keeps no history: only the latest events are known")
		return out.End(s.recentRange(r.Context(), q, out.lines))
	}
	return out.End(s.Range(r.Context(), q, out.lines))
}

// recentRange is what is remembered of a range.
func (s *Server) recentRange(ctx context.Context, q past.Query, write func([]byte) error) error {
	list, err := s.backend.Recent(ctx, q.Types, 0)
	if err != nil {
		return err
	}
	var lines []byte
	for _, e := range list {
		if !e.Time.Before(q.From) && (q.To.IsZero() || !e.Time.After(q.To)) && (q.PID == 0 || past.IsAbout(e, q.PID)) {
			lines = wire.AppendEvent(lines, e)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return write(lines)
}

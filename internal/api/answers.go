// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

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

// factsParam returns which of [wire.Facts] the request asks for.
func factsParam(r *http.Request) ([]string, error) {
	text := r.URL.Query().Get("facts")
	if text == "" {
		return nil, nil
	}
	if r.URL.Query().Has(paramAt) {
		return nil, &StatusError{http.StatusBadRequest, "facts are of now: at cannot stand beside them"}
	}
	facts := strings.Split(text, ",")
	for _, fact := range facts {
		if !slices.Contains(wire.Facts, fact) {
			return nil, &StatusError{http.StatusBadRequest, fmt.Sprintf("facts %q: want %s", fact, strings.Join(wire.Facts, ", "))}
		}
	}
	return facts, nil
}

// factsLooker is looker with the facts that a list of processes is asked for.
func (s *Server) factsLooker(w http.ResponseWriter, r *http.Request) (from Looker, facts []string, release func(), err error) {
	if facts, err = factsParam(r); err != nil {
		return nil, nil, nil, err
	}
	from, release, err = s.looker(w, r, 0)
	return from, facts, release, err
}

func (s *Server) tree(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Accept") == drawingType {
		return s.drawTree(w, r)
	}
	from, facts, release, err := s.factsLooker(w, r)
	if err != nil {
		return err
	}
	defer release()
	doc, err := from.Tree(r.Context(), facts...)
	if err != nil {
		return err
	}
	text := wire.AppendTree(make([]byte, 0, 600*len(doc.Processes)), doc)
	s.send(w, jsonType, append(text, '\n'))
	return nil
}

func (s *Server) orphans(w http.ResponseWriter, r *http.Request) error {
	from, facts, release, err := s.factsLooker(w, r)
	if err != nil {
		return err
	}
	defer release()
	list, err := from.Orphans(r.Context(), facts...)
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

func (s *Server) process(w http.ResponseWriter, r *http.Request) error {
	pid, err := PIDParam(r)
	if err != nil {
		return err
	}
	from, release, err := s.looker(w, r, pid)
	if err != nil {
		return err
	}
	defer release()
	p, err := from.Process(r.Context(), pid)
	if err != nil {
		return err
	}
	return WriteJSON(w, p)
}

// Status is what GET /v1/status answers: the document of `status --json` and, for those who
// asked before that was there, a few figures.
type Status struct {
	wire.Status
	PID        int               `json:"pid"`
	Events     map[string]uint64 `json:"events"`
	Living     int               `json:"living"`
	Dead       int               `json:"dead"`
	Orphans    int               `json:"orphans"`
	Refused    uint64            `json:"refused"`
	CanarySeen *time.Time        `json:"canary_seen,omitempty"`
	Conditions []string          `json:"troubles,omitempty"`  // what it cannot do at present
	StopFile   *wire.Stop        `json:"stop_file,omitempty"` // nil where none is configured
	Config     string            `json:"config,omitempty"`    // the path of its configuration
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	st := s.backend.Stats()
	out := Status{PID: os.Getpid(), Events: st.Events, Living: st.Living, Dead: st.Dead,
		Orphans: st.Orphans, Refused: st.Refused, Config: s.Config}
	if !st.CanarySeen.IsZero() {
		out.CanarySeen = &st.CanarySeen
	}
	if s.Conditions != nil {
		out.Conditions = s.Conditions()
	}
	if s.StopFile != nil {
		out.StopFile = s.StopFile()
	}
	if s.Status != nil {
		doc, err := s.Status(r.Context())
		if err != nil {
			return err
		}
		out.Status = *doc
	}
	return WriteJSON(w, out)
}

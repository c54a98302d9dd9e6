// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// pastPatience is how long a reader of the past may take nothing. It loses nothing when it is
// left: it comes again with its cursor.
const pastPatience = time.Minute

var errReaderLeft = errors.New("the reader left")

// pastEvents streams notable events from the disk, from a cursor on. However slow a reader is,
// it gets all that is kept.
func (s *Server) pastEvents(w http.ResponseWriter, r *http.Request, types []string) error {
	q := r.URL.Query()
	switch scope := q.Get("scope"); {
	case s.Past == nil:
		return &StatusError{http.StatusNotFound, "the daemon keeps no history: no cursor names a place in it"}
	case scope != "" && scope != "notable":
		return &StatusError{http.StatusBadRequest, fmt.Sprintf("scope %q: want notable", scope)}
	case q.Get("since") != "" && q.Get("since") != "0":
		return &StatusError{http.StatusBadRequest, "a cursor says since when: since cannot stand beside it"}
	}
	out := http.NewResponseController(w)
	begun := false
	begin := func() {
		if !begun {
			w.Header().Set("Content-Type", eventsType)
			begun = true
		}
	}
	follow := q.Get("follow") == "1"
	err := s.Past(r.Context(), q.Get("cursor"), types, follow, func(lines []byte) error {
		begin()
		_ = out.SetWriteDeadline(time.Now().Add(pastPatience))
		if _, err := w.Write(lines); err != nil {
			return errReaderLeft
		}
		if out.Flush() != nil {
			return errReaderLeft
		}
		return nil
	})
	switch {
	case err == nil:
		begin()
	case begun:
		return nil // it left, or comes again with the cursor of what it had
	default:
		return err
	}
	return nil
}

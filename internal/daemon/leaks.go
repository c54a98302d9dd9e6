// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leaks answers with the open leaks and those that have ended and are remembered, or with
// the one whose id is asked for: now, at a time, or between two.
func (d *daemon) leaks(w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("id")
	host, _ := os.Hostname()
	out := wire.Leaks{Schema: wire.Schema, Host: host, Leaks: []wire.Leak{}}
	var err error
	switch q := r.URL.Query(); {
	case q.Has("at"):
		err = d.leaksAt(w, r, id, &out)
	case q.Has("from") || q.Has("until"):
		err = d.leaksBetween(w, r, id, &out)
	default:
		out.Leaks, err = d.leaksNow(r, id)
	}
	if err == nil {
		err = d.tracer.Do(r.Context(), func(*tracker.Tree) { d.addTrust(out.Leaks) })
	}
	switch {
	case err != nil:
		return err
	case id != "" && len(out.Leaks) == 0:
		return &api.StatusError{Code: http.StatusNotFound, Text: fmt.Sprintf("no leak %q is known: it never was, or is forgotten", id)}
	}
	return api.WriteJSON(w, out)
}

// leaksNow are those that are remembered. One that is not any more is found in the history.
func (d *daemon) leaksNow(r *http.Request, id string) ([]wire.Leak, error) {
	list := []wire.Leak{}
	err := d.tracer.Do(r.Context(), func(*tracker.Tree) {
		if id == "" {
			list = append(list, d.tracer.Leaks().List(true, r.URL.Query().Get("members") != "0")...)
		} else if l := d.tracer.Leaks().Get(id); l != nil {
			list = append(list, *l)
		}
	})
	if err == nil && id != "" && len(list) == 1 && list[0].State == wire.LeakStateOpen {
		var members []event.ID
		for _, m := range list[0].Members {
			members = append(members, event.ID{PID: m.PID, Start: m.StartNS})
		}
		list[0].Holds = d.control.Holds(r.Context(), members)
	}
	if err != nil || id == "" || len(list) > 0 || d.questions == nil {
		return list, err
	}
	list, _, err = d.questions.leaksBetween(r.Context(), time.Time{}, id, nil)
	return list, err
}

func (d *daemon) leaksAt(w http.ResponseWriter, r *http.Request, id string, out *wire.Leaks) error {
	m, release, err := d.server.AtMoment(w, r, 0)
	if err != nil {
		return err
	}
	defer release()
	out.Leaks, err = m.Leaks(r.Context(), d.questions.store, id)
	return err
}

// leaksBetween answers with all that were told of until a time; whoever asks leaves those
// that were over before the other. Without a history it is those that are remembered.
func (d *daemon) leaksBetween(w http.ResponseWriter, r *http.Request, id string, out *wire.Leaks) error {
	from, until, err := api.RangeParams(r)
	if err != nil {
		return err
	}
	now, err := d.leaksNow(r, id)
	if err != nil {
		return err
	}
	if d.questions == nil {
		out.Leaks = leak.Within(now, from, until)
		w.Header().Add(api.NoteHeader, "the daemon keeps no history: of ended leaks only the latest are known")
		return nil
	}
	list, missed, err := d.questions.leaksBetween(r.Context(), until, id, now)
	if missed > 0 {
		w.Header().Add(api.NoteHeader, fmt.Sprintf("%d notable events could not be read", missed))
	}
	out.Leaks = leak.Within(list, from, until)
	return err
}

// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/control"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// kill ends what the peer asks to be ended, or says what that would be. Everyone may ask:
// control reaches for him only what he could signal himself.
func (d *daemon) kill(w http.ResponseWriter, r *http.Request) error {
	var req api.KillRequest
	if err := api.ReadJSON(w, r, &req); err != nil {
		return err
	}
	m, err := manualKill(&req)
	if err != nil {
		return &api.StatusError{Code: http.StatusBadRequest, Text: err.Error()}
	}
	if m.By, err = d.requester(r); err != nil {
		return err
	}
	if req.DryRun {
		plan, err := d.control.PlanKill(r.Context(), m)
		if err != nil {
			return killError(err)
		}
		if stop := d.stopFile(); stop != nil && stop.InForce {
			plan.Stop = stop
		}
		return api.WriteJSON(w, plan)
	}
	kill, err := d.control.Kill(r.Context(), m)
	if err != nil {
		return killError(err)
	}
	return api.WriteJSON(w, kill)
}

// firstSignals are those that a kill may begin with: who handles them may end in order.
var firstSignals = map[string]unix.Signal{"SIGTERM": unix.SIGTERM, "SIGINT": unix.SIGINT, "SIGHUP": unix.SIGHUP,
	"SIGQUIT": unix.SIGQUIT, "SIGKILL": unix.SIGKILL}

// manualKill is the request as control takes it, or what is wrong with it.
func manualKill(req *api.KillRequest) (m control.ManualKill, err error) {
	m = control.ManualKill{PID: req.PID, StartNS: req.StartNS, Leak: req.Leak, Scope: cmp.Or(req.Scope, wire.ScopeTree),
		Grace: api.DefaultGrace, DespiteStopFile: req.DespiteStopFile}
	if req.GraceSeconds != nil {
		if !(*req.GraceSeconds >= 0 && *req.GraceSeconds <= maxGrace.Seconds()) {
			return m, fmt.Errorf("grace of %g s: want 0 to %g s", *req.GraceSeconds, maxGrace.Seconds())
		}
		m.Grace = time.Duration(*req.GraceSeconds * float64(time.Second))
	}
	var known bool
	m.Signal, known = firstSignals[cmp.Or(req.Signal, "SIGTERM")]
	switch {
	case !known:
		return m, fmt.Errorf("signal %q: want SIGTERM, SIGINT, SIGHUP, SIGQUIT or SIGKILL", req.Signal)
	case m.Scope != wire.ScopeTree && m.Scope != wire.ScopeProcess:
		return m, fmt.Errorf("scope %q: want tree or process", req.Scope)
	case req.Leak != "" && (req.PID != 0 || req.StartNS != 0):
		return m, errors.New("pid and leak: want one of them")
	case req.Leak != "" && m.Scope != wire.ScopeTree:
		return m, errors.New("scope process: a leak is ended whole")
	case req.Leak == "" && req.PID <= 0:
		return m, errors.New("want pid and start_ns, or leak")
	case req.Leak == "" && req.StartNS == 0 && !req.DryRun:
		return m, errors.New("start_ns is missing: a pid alone may be another process by now")
	}
	return m, nil
}

// requester is who sent the request.
func (d *daemon) requester(r *http.Request) (by wire.Requester, err error) {
	peer := api.PeerOf(r.Context())
	by = wire.Requester{UID: peer.UID, PID: peer.PID}
	err = d.tracer.DoDrained(r.Context(), func(tree *tracker.Tree) {
		if id, err := peerID(tree, peer); err == nil {
			p, _ := tree.Get(id)
			by.Comm = p.Comm.String()
		}
	})
	return by, err
}

// killError gives a refusal its status.
func killError(err error) error {
	var refused *control.ManualError
	if !errors.As(err, &refused) {
		return err
	}
	codes := map[control.ManualFault]int{control.NotThere: http.StatusNotFound, control.Unfit: http.StatusConflict,
		control.Forbidden: http.StatusForbidden, control.Stopped: http.StatusConflict, control.Busy: http.StatusServiceUnavailable}
	return &api.StatusError{Code: codes[refused.Fault], Text: refused.Text}
}

// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/http"
	"time"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/monitor"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// addEndpoints adds to the socket what needs more than the tracer.
func (d *daemon) addEndpoints() {
	d.server.Handle("GET /v1/explain", d.explain)
	d.server.Handle("GET /v1/leaks", d.leaks)
	d.server.Handle("GET /v1/trust", d.showTrust)
	d.server.Handle("POST /v1/trust", d.decide)
	d.server.Handle("GET /v1/rules", d.rules)
	d.server.Handle("POST /v1/reload", d.reloadNow)
	d.server.Handle("POST /v1/cleanup", d.cleanup)
	d.server.Handle("GET /v1/monitor", d.monitor)
	d.server.Handle("GET /metrics", func(w http.ResponseWriter, r *http.Request) error {
		d.counters.metrics.Handler().ServeHTTP(w, r)
		return nil
	})
	d.server.HandleAny("POST /v1/kill", d.kill)
	d.server.HandleAny("POST /v1/lease", d.lease)
	d.server.HandleAny("DELETE /v1/lease", d.giveLeaseBack)
	d.server.HandleAny("GET /v1/descendants", d.descendants)
}

// explain answers about a process of now, or of the time that is asked about.
func (d *daemon) explain(w http.ResponseWriter, r *http.Request) error {
	pid, err := api.PIDParam(r)
	if err != nil {
		return err
	}
	cfg, err := broughtConfig(r, r.URL.Query().Get("config"))
	if err != nil {
		return err
	}
	var out *wire.Explain
	if r.URL.Query().Has("at") {
		m, release, failed := d.server.AtMoment(w, r, pid)
		if failed != nil {
			return failed
		}
		defer release()
		out, err = d.questions.explainAt(r.Context(), m, cfg, pid)
	} else {
		out, err = d.control.Explain(r.Context(), cfg, pid)
	}
	if err != nil {
		return err
	}
	return api.WriteJSON(w, out)
}

func (d *daemon) monitor(w http.ResponseWriter, _ *http.Request) error {
	look, _, settings := d.samplerLoop.latest()
	return api.WriteJSON(w, monitor.Report(settings, look))
}

func (d *daemon) cleanup(w http.ResponseWriter, r *http.Request) error {
	var req api.CleanupRequest
	if err := api.ReadJSON(w, r, &req); err != nil {
		return err
	}
	cfg, err := broughtConfig(r, req.Config)
	if err != nil {
		return err
	}
	by, err := d.requester(r)
	if err != nil {
		return err
	}
	kills, err := d.control.Pass(r.Context(), cfg, req.Enforce, &by, nil)
	if err != nil {
		return err
	}
	if kills == nil {
		kills = []wire.Kill{}
	}
	return api.WriteJSON(w, kills)
}

// broughtConfig loads the configuration at path that a request brings; nil without one.
// Other rules than the daemon's own are root's to bring: with them anything could be
// ended.
func broughtConfig(r *http.Request, path string) (*config.Config, error) {
	if path == "" {
		return nil, nil
	}
	if api.PeerOf(r.Context()).UID != 0 {
		return nil, &api.StatusError{Code: http.StatusForbidden, Text: "permission denied: only root may bring a configuration"}
	}
	cfg, err := config.Load(path, config.Options{Trusted: true})
	if err != nil {
		return nil, &api.StatusError{Code: http.StatusBadRequest, Text: err.Error()}
	}
	return cfg, nil
}

// lease takes the declaration of the process at the other end, or of its parent, that
// its descendants are not to outlive it.
func (d *daemon) lease(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		GraceSeconds float64 `json:"grace_seconds"`
		Holder       string  `json:"holder"`
	}
	if err := api.ReadJSON(w, r, &req); err != nil {
		return err
	}
	grace := time.Duration(req.GraceSeconds * float64(time.Second))
	if req.GraceSeconds < 0 || req.GraceSeconds > maxGrace.Seconds() {
		return &api.StatusError{Code: http.StatusBadRequest,
			Text: fmt.Sprintf("grace of %g s: want 0 to %g s", req.GraceSeconds, maxGrace.Seconds())}
	}
	if req.Holder != "" && req.Holder != "caller" {
		return &api.StatusError{Code: http.StatusBadRequest, Text: fmt.Sprintf("holder %q: want caller or nothing", req.Holder)}
	}
	peer := api.PeerOf(r.Context())
	var held lease.Lease
	var refusal error
	err := d.tracer.DoDrained(r.Context(), func(tree *tracker.Tree) {
		held, refusal = leaseOf(tree, peer, req.Holder == "caller")
		switch {
		case refusal != nil:
		case !d.tracer.Leases().Room(held):
			refusal = &api.StatusError{Code: http.StatusTooManyRequests,
				Text: fmt.Sprintf("user %d holds %d leases already, which is the most", held.UID, lease.MaxPerUser)}
		default:
			held.Grace = grace
			d.tracer.Leases().Hold(held)
		}
	})
	if err != nil {
		return err
	}
	if refusal != nil {
		return refusal
	}
	answer := map[string]any{"lease_id": held.Holder.String(), "outlives_daemon": true}
	if err := d.leaseFile.persist(r.Context()); err != nil {
		answer["outlives_daemon"], answer["why"] = false, err.Error()
	}
	return api.WriteJSON(w, answer)
}

// maxGrace is the longest grace that a lease may ask for.
const maxGrace = time.Hour

// leaseOf is the lease that the peer, or its caller, takes. A user can speak for its
// own processes only, and a lease reaches only what its holder's user could signal.
func leaseOf(tree *tracker.Tree, peer api.Peer, caller bool) (lease.Lease, error) {
	id, err := peerID(tree, peer)
	if err != nil || !caller {
		return lease.Lease{Holder: id, UID: peer.UID}, err
	}
	self, _ := tree.Get(id)
	parent, ok := tree.Get(self.Parent)
	switch {
	case !ok || parent.Dead || self.Spawner != self.Parent:
		// Whoever adopted the peer has not called it.
		return lease.Lease{}, &api.StatusError{Code: http.StatusConflict, Text: "the caller is gone"}
	case parent.ID.PID == 1:
		return lease.Lease{}, &api.StatusError{Code: http.StatusConflict, Text: "the caller is pid 1, which holds no lease"}
	case peer.UID != 0 && parent.UID != peer.UID:
		return lease.Lease{}, &api.StatusError{Code: http.StatusForbidden,
			Text: fmt.Sprintf("permission denied: the caller, pid %d, is another user's", parent.ID.PID)}
	}
	return lease.Lease{Holder: parent.ID, UID: parent.UID}, nil
}

// peerID identifies the process at the other end of a connection. One that got the
// pid after the connection was made is not it.
func peerID(tree *tracker.Tree, peer api.Peer) (event.ID, error) {
	id, ok := tree.Lookup(peer.PID)
	if !ok || id.Start > peer.Since {
		return event.ID{}, &api.StatusError{Code: http.StatusConflict,
			Text: fmt.Sprintf("pid %d, which connected, is gone", peer.PID)}
	}
	return id, nil
}

// descendants tells the peer who descends from it.
func (d *daemon) descendants(w http.ResponseWriter, r *http.Request) error {
	type process struct {
		PID     int32  `json:"pid"`
		StartNS uint64 `json:"start_ns"`
	}
	list := []process{}
	var refusal error
	err := d.tracer.DoDrained(r.Context(), func(tree *tracker.Tree) {
		id, err := peerID(tree, api.PeerOf(r.Context()))
		if err != nil {
			refusal = err
			return
		}
		for child := range tree.Descendants(id) {
			list = append(list, process{child.PID, child.Start})
		}
	})
	if err != nil {
		return err
	}
	if refusal != nil {
		return refusal
	}
	return api.WriteJSON(w, map[string]any{"processes": list})
}

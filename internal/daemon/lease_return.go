// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/control"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// stayed is one process that a holder names when it gives its lease back.
type stayed struct {
	PID     int32  `json:"pid"`
	StartNS uint64 `json:"start_ns"`
}

// giveLeaseBack takes the lease of the process at the other end back, which ends in order,
// with the list of who is to stay. Refused, one by one, is who does not live or descend
// from it, and whom its user could not signal: it has no say on that one.
func (d *daemon) giveLeaseBack(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Stays []stayed `json:"stays"`
	}
	if err := api.ReadJSON(w, r, &req); err != nil {
		return err
	}
	if len(req.Stays) > lease.MaxStays {
		return &api.StatusError{Code: http.StatusBadRequest, Text: fmt.Sprintf("%d processes stay: want %d at most", len(req.Stays), lease.MaxStays)}
	}
	peer := api.PeerOf(r.Context())
	var named []event.ID
	for _, s := range req.Stays {
		if control.MaySignal(peer.UID, s.PID) { // not on the loop: it reads procfs
			named = append(named, event.ID{PID: s.PID, Start: s.StartNS})
		}
	}
	var taken []event.ID
	var refusal error
	err := d.tracer.DoDrained(r.Context(), func(tree *tracker.Tree) {
		holder, err := peerID(tree, peer)
		if err != nil {
			refusal = err
			return
		}
		var held bool
		if taken, held = d.tracer.Leases().GiveBack(holder, named); !held {
			refusal = &api.StatusError{Code: http.StatusConflict, Text: fmt.Sprintf("pid %d holds no lease", peer.PID)}
		}
	})
	if err != nil {
		return err
	}
	if refusal != nil {
		return refusal
	}
	if err := d.leaseFile.persist(r.Context()); err != nil {
		d.Log.Warn("a lease that was given back may be held again after a restart", "err", err)
	}
	refused := []stayed{}
	for _, s := range req.Stays {
		if !slices.Contains(taken, event.ID{PID: s.PID, Start: s.StartNS}) {
			refused = append(refused, s)
		}
	}
	return api.WriteJSON(w, map[string]any{"refused": refused})
}

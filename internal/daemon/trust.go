// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"strconv"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/state"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A trustKeeper holds what was decided about leaks, and writes it down when it changes. The
// book is the loop's.
type trustKeeper struct {
	book   *trust.Book
	tracer *trace.Tracer
	save   func([]byte) error // nil where nothing is saved
	dirty  chan struct{}      // the loop has changed the book
	mu     sync.Mutex         // one write at a time, each with what holds at its time
}

// newTrustKeeper restores what a daemon before has written to dir, which may be nil. An error
// says that this could not be read; the keeper works then without it, and lets no rule end
// anything until root has decided anew.
func newTrustKeeper(dir *state.Dir) (*trustKeeper, error) {
	k := &trustKeeper{book: trust.New(), dirty: make(chan struct{}, 1)}
	if dir == nil {
		return k, nil
	}
	k.save = dir.SaveTrust
	text, err := dir.LoadTrust()
	if err == nil {
		err = k.book.Restore(text)
	}
	if err != nil {
		k.book.Distrust(err.Error())
		k.changed()
	}
	return k, err
}

// changed has the book written down soon. On the loop.
func (k *trustKeeper) changed() {
	select {
	case k.dirty <- struct{}{}:
	default:
	}
}

// run writes down what the loop has changed, until ctx ends.
func (k *trustKeeper) run(ctx context.Context, failed func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.dirty:
			if err := k.persist(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errNotSaved) {
				failed(err)
			}
		}
	}
}

// persist returns when the book as it is now outlives this process, or why it may not.
func (k *trustKeeper) persist(ctx context.Context) error {
	if k.save == nil {
		return errNotSaved
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var text []byte
	var encoded error
	err := k.tracer.Do(ctx, func(*tracker.Tree) {
		k.book.Expire(time.Now())
		text, encoded = k.book.Encode()
	})
	if err = cmp.Or(err, encoded); err != nil {
		return err
	}
	return k.save(text)
}

// finish writes the book down when the loop has ended.
func (k *trustKeeper) finish() error {
	if k.save == nil {
		return nil
	}
	text, err := k.book.Encode()
	if err != nil {
		return err
	}
	return k.save(text)
}

// muted reports whether nobody is to be sent a notice of an event: it is about a leak that
// somebody has acknowledged. On the loop.
func (d *daemon) muted(e *wire.Event) bool {
	if !d.trust.book.HasAcks() {
		return false
	}
	fingerprint := ""
	switch {
	case e.Leak != nil:
		fingerprint = e.Leak.Fingerprint
	case (e.Type == wire.TypeOrphan || e.Type == wire.TypeVerdict) && e.Process != nil:
		fingerprint, _ = d.tracer.Leaks().Case(event.ID{PID: e.Process.PID, Start: e.Process.StartNS})
	}
	return fingerprint != "" && d.trust.book.Acked(fingerprint, time.Now())
}

// showTrust answers with all that was decided.
func (d *daemon) showTrust(w http.ResponseWriter, r *http.Request) error {
	var list []wire.Trust
	err := d.tracer.Do(r.Context(), func(*tracker.Tree) { list = d.trust.book.All(time.Now()) })
	if err != nil {
		return err
	}
	return api.WriteJSON(w, list)
}

// decide takes a decision about a fingerprint: an ack is root's and the group's, all else is
// root's.
func (d *daemon) decide(w http.ResponseWriter, r *http.Request) error {
	var req api.TrustRequest
	if err := api.ReadJSON(w, r, &req); err != nil {
		return err
	}
	peer := api.PeerOf(r.Context())
	if req.Action != wire.TrustAck && peer.UID != 0 {
		return onlyRoot("decide this; the members of the socket's group may ack")
	}
	t := wire.Trust{Kind: req.Action, Fingerprint: req.Fingerprint, Name: req.Name, Reason: req.Reason, By: decider(peer), Since: time.Now()}
	if req.Action == wire.TrustAck {
		until := t.Since.Add(time.Duration(req.Seconds * float64(time.Second)))
		t.Until = &until
	}
	var refused error
	err := d.tracer.Do(r.Context(), func(*tracker.Tree) { t, refused = d.decideOnLoop(t) })
	if err = cmp.Or(err, refused); err != nil {
		return err
	}
	answer := api.TrustAnswer{Trust: t, Saved: true}
	if err := d.trust.persist(r.Context()); err != nil {
		answer.Saved, answer.Why = false, err.Error()
	}
	return api.WriteJSON(w, answer)
}

// decideOnLoop notes a decision, or that nothing decided holds any more, and tells.
func (d *daemon) decideOnLoop(t wire.Trust) (wire.Trust, error) {
	book := d.trust.book
	t.Name = cmp.Or(t.Name, d.tracer.Leaks().NameOf(t.Fingerprint))
	var suspended []wire.Trust
	if t.Kind == wire.TrustForget {
		suspended = book.Of(t.Fingerprint, t.Since)
		if !book.Forget(t.Fingerprint) {
			return t, &api.StatusError{Code: http.StatusNotFound, Text: fmt.Sprintf("nothing was decided about %.40q", t.Fingerprint)}
		}
		t.Action, t.Kind = wire.TrustForget, ""
	} else {
		var err error
		if t, err = book.Decide(t); err != nil {
			return t, &api.StatusError{Code: http.StatusBadRequest, Text: err.Error()}
		}
	}
	d.tracer.PublishOnLoop(&wire.Event{Type: wire.TypeTrust, Trust: &t})
	for _, s := range suspended {
		if s.Kind == wire.TrustSuspend {
			d.alertOnLoop(wire.Alert{Name: "suspended:" + s.Rule, State: wire.AlertOK, Previous: wire.AlertWarning, Since: t.Since,
				Message: "rule " + s.Rule + " is not suspended any more for leaks of " + t.Fingerprint})
		}
	}
	d.control.Reconsider()
	return t, nil
}

// onlyRoot refuses what only root may do.
func onlyRoot(what string) error {
	return &api.StatusError{Code: http.StatusForbidden, Text: "permission denied: only root may " + what}
}

// decider is the process at the other end as one who decides.
func decider(p api.Peer) *wire.TrustBy {
	by := &wire.TrustBy{UID: p.UID, PID: p.PID}
	if u, err := user.LookupId(strconv.FormatUint(uint64(p.UID), 10)); err == nil {
		by.User = u.Username
	}
	return by
}

// addTrust adds to leaks what was decided about their fingerprints. On the loop.
func (d *daemon) addTrust(leaks []wire.Leak) {
	by := make(map[string][]wire.Trust)
	for _, t := range d.trust.book.All(time.Now()) {
		by[t.Fingerprint] = append(by[t.Fingerprint], t)
	}
	if len(by) == 0 {
		return
	}
	for i := range leaks {
		leaks[i].Trust = by[leaks[i].Fingerprint]
	}
}

// rules answers with what each rule may do, and has done.
func (d *daemon) rules(w http.ResponseWriter, r *http.Request) error {
	var list []wire.RuleStatus
	if err := d.tracer.Do(r.Context(), func(*tracker.Tree) { list = d.control.Rules(time.Now()) }); err != nil {
		return err
	}
	return api.WriteJSON(w, list)
}

// reloadNow takes the configuration anew for root, who may say that this arms or disarms a
// rule, and answers when that is done or refused.
func (d *daemon) reloadNow(w http.ResponseWriter, r *http.Request) error {
	var req api.ReloadRequest
	if err := api.ReadJSON(w, r, &req); err != nil {
		return err
	}
	peer := api.PeerOf(r.Context())
	if peer.UID != 0 {
		return onlyRoot("have the configuration taken anew")
	}
	if req.Action != "" && req.Action != wire.TrustArm && req.Action != wire.TrustDisarm {
		return &api.StatusError{Code: http.StatusBadRequest, Text: fmt.Sprintf("action %.40q: want arm or disarm", req.Action)}
	}
	if err := d.reload(r.Context()); err != nil {
		return &api.StatusError{Code: http.StatusConflict, Text: err.Error()}
	}
	if req.Action != "" {
		d.tracer.Publish(&wire.Event{Type: wire.TypeTrust, Trust: &wire.Trust{Action: req.Action, Rule: req.Rule, Reason: req.Reason,
			By: decider(peer), Since: time.Now()}})
	}
	return api.WriteJSON(w, struct{}{})
}

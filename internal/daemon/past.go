// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A questioner answers questions about the past out of the history. Each may take a second and
// as much memory as the tree does, so that only some are answered at a time.
type questioner struct {
	d         *daemon
	store     *history.Store
	turns     chan struct{}
	followers chan struct{} // of all events: each has a tree of its own
}

// maxQuestions is how many questions about the past are answered at a time.
const maxQuestions = 2

// maxFollowers is how many readers follow all events by cursors at a time.
const maxFollowers = 4

// askPast has the socket answer about the past, where a history is kept.
func (d *daemon) askPast() {
	if d.history == nil {
		return
	}
	q := &questioner{d: d, store: d.history.store, turns: make(chan struct{}, maxQuestions),
		followers: make(chan struct{}, maxFollowers)}
	d.questions = q
	d.server.Moment = q.moment
	d.server.Range = q.events
	d.server.Past = q.follow
	d.server.Handle("GET /v1/history/export", q.export)
}

// begin waits for the turn of a question, and has everything that has happened until now on
// the disk. Whoever has it calls done.
func (q *questioner) begin(ctx context.Context) (done func(), err error) {
	select {
	case q.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := q.d.tracer.DoDrained(ctx, func(*tracker.Tree) { q.store.Flush() }); err != nil {
		<-q.turns
		return nil, err
	}
	q.store.Wait(syncPatience)
	return func() { <-q.turns }, nil
}

func (q *questioner) moment(ctx context.Context, at time.Time, pid int32) (*past.Moment, func(), error) {
	if at.After(time.Now()) {
		return nil, nil, &api.StatusError{Code: http.StatusBadRequest, Text: "at: it is in the future"}
	}
	done, err := q.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	m, err := past.AtProcess(ctx, q.store, at, pid)
	if errors.Is(err, history.ErrNoCheckpoint) {
		err = &api.StatusError{Code: http.StatusNotFound, Text: err.Error()}
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return m, done, nil
}

// events answers with the events of a range, some lines at a time.
func (q *questioner) events(ctx context.Context, query past.Query, write func([]byte) error) error {
	done, err := q.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	var lines []byte
	missed, err := past.Events(ctx, q.store, query, func(e *wire.Event) error {
		if lines = wire.AppendEvent(lines, e); len(lines) < pastPortion {
			return nil
		}
		err := write(lines)
		lines = lines[:0]
		return err
	})
	if err != nil {
		return err
	}
	if missed > 0 {
		lost := api.Missed(missed, 0)
		lost.Lost.Where = wire.LostFromHistory
		lines = wire.AppendEvent(lines, lost)
	}
	if len(lines) == 0 {
		return nil
	}
	return write(lines)
}

// pastPortion is how many bytes of lines are written at once, about.
const pastPortion = 64 << 10

// follow serves readers with cursors.
func (q *questioner) follow(ctx context.Context, cursor string, all bool, types []string, follow bool, write func([]byte) error) error {
	from := past.Follow
	if all {
		from = past.FollowAll
		select {
		case q.followers <- struct{}{}:
			defer func() { <-q.followers }()
		default:
			return &api.StatusError{Code: http.StatusTooManyRequests,
				Text: fmt.Sprintf("%d readers follow all events by cursors, which is the most", maxFollowers)}
		}
	}
	if !follow {
		done, err := q.begin(ctx)
		if err != nil {
			return err
		}
		defer done()
	}
	err := from(ctx, q.store, cursor, types, follow, write)
	switch {
	case errors.Is(err, past.ErrCursor):
		return &api.StatusError{Code: http.StatusBadRequest, Text: err.Error()}
	case errors.Is(err, past.ErrPurged):
		return &api.StatusError{Code: http.StatusGone, Text: err.Error()}
	}
	return err
}

// export answers with a range of the history, as a tar archive of segments.
func (q *questioner) export(w http.ResponseWriter, r *http.Request) error {
	from, until, err := api.RangeParams(r)
	if err != nil {
		return err
	}
	done, err := q.begin(r.Context())
	if err != nil {
		return err
	}
	defer done()
	out := api.NewStreamWriter(w, "application/x-tar")
	_, err = past.Export(r.Context(), q.store, from, until, out)
	if errors.Is(err, past.ErrNothing) {
		err = &api.StatusError{Code: http.StatusNotFound, Text: err.Error()}
	}
	return out.End(err)
}

// leaksBetween returns the leaks that were told of until a time, and until now those that are
// open as they are.
func (q *questioner) leaksBetween(ctx context.Context, until time.Time, id string, now []wire.Leak) ([]wire.Leak, uint64, error) {
	done, err := q.begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	list, missed, err := past.Leaks(ctx, q.store, until, id)
	if err != nil || !until.IsZero() {
		return list, missed, err
	}
	living := make(map[string]*wire.Leak, len(now))
	for i := range now {
		living[now[i].ID] = &now[i]
	}
	for i := range list {
		if l := living[list[i].ID]; l != nil {
			list[i] = *l
			delete(living, l.ID)
		} else {
			past.EndUnseen(&list[i], time.Now())
		}
	}
	for i := range now {
		if living[now[i].ID] != nil {
			list = append(list, now[i])
		}
	}
	return list, missed, nil
}

// explainAt explains a process as it was at the moment, by the rules of now.
func (q *questioner) explainAt(ctx context.Context, m *past.Moment, cfg *config.Config, pid int32) (*wire.Explain, error) {
	if cfg == nil {
		q.d.reloading.Lock()
		cfg = q.d.cfg
		q.d.reloading.Unlock()
	}
	engine, err := cfg.Engine(false)
	if err != nil {
		return nil, err
	}
	out, err := m.Explain(ctx, q.store, pid)
	if err != nil {
		return nil, err
	}
	tree, err := m.Tree(ctx)
	if err != nil {
		return nil, err
	}
	out.Rules = replay.Explain(tree, engine, &out.Process, m.BootNS())
	return out, nil
}

// largest is how many of the largest processes are kept of a sample.
const largest = 32

// sampleOf is what is kept of a pass whatever leaks there are: the host and the largest
// processes; nil where nothing is.
func (k *historyKeeper) sampleOf(pass *sample.Pass, host *policy.Host) *past.Sample {
	if k == nil {
		return nil
	}
	s := &past.Sample{Time: uint64(pass.Boot), Host: host.Figures(), Uses: make(map[event.ID]describe.Use)}
	all := pass.Above(0)
	for i := range all[:min(largest, len(all))] {
		s.Uses[all[i].ID] = keptUse(&all[i])
	}
	return s
}

func keptUse(u *sample.Usage) describe.Use {
	return describe.Use{RSS: u.RSS, Swap: u.Swap, CPU: time.Duration(u.CPU), Threads: u.Threads}
}

// sample keeps a sample, with the members of open leaks. On the loop.
func (k *historyKeeper) sample(s *past.Sample, pass *sample.Pass, members []event.ID) {
	if k == nil || s == nil {
		return
	}
	for _, id := range members {
		if u, ok := pass.Get(id); ok {
			s.Uses[id] = keptUse(&u)
		}
	}
	k.rec.Sample(s)
}

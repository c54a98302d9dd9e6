// SPDX-License-Identifier: Apache-2.0

// Package deliver delivers notices outside the privileged daemon: webhooks, hooks,
// and the metrics' loopback address. It holds no capability and trusts nothing but
// the daemon that feeds it.
package deliver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify"
)

// queueLength is how many notices wait for one target. What does not fit is dropped
// and counted: a server that is down must not take all memory.
const queueLength = 256

// A target delivers notices to one place, one at a time.
type target interface {
	// deliver returns once the notice is delivered or given up.
	deliver(context.Context, *notify.Notice) error
}

// Serve reads settings and then notices from in, delivers them, and writes reports
// to out. It returns when in ends, after what waits was delivered or DrainTimeout
// has passed, or when ctx ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), notify.MaxLine+1)
	settings, err := readSettings(lines)
	if err != nil {
		return err
	}
	h := &helper{log: log, stats: map[string]*notify.Target{}, changed: make(chan struct{}, 1)}
	h.start(ctx, settings)
	// The address is given up as soon as the daemon is done with us: its next helper
	// wants it.
	metrics, stopMetrics := context.WithCancel(ctx)
	defer stopMetrics()
	if settings.Metrics != nil {
		h.work.Go(func() { serveMetrics(metrics, *settings.Metrics, log) })
	}
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		h.report(ctx, out)
	}()
	for lines.Scan() {
		var line notify.Line
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("notice: %w", err)
		}
		if line.Notice != nil {
			h.accept(line.Notice)
		}
	}
	stopMetrics()
	h.drain(cancel)
	<-reported
	return lines.Err()
}

func readSettings(lines *bufio.Scanner) (notify.Settings, error) {
	if !lines.Scan() {
		return notify.Settings{}, errors.Join(errors.New("no settings"), lines.Err())
	}
	var first notify.Line
	if err := json.Unmarshal(lines.Bytes(), &first); err != nil {
		return notify.Settings{}, fmt.Errorf("settings: %w", err)
	}
	if first.Settings == nil {
		return notify.Settings{}, errors.New("settings: the first line has none")
	}
	return *first.Settings, nil
}

type helper struct {
	log    *slog.Logger
	queues []*queue
	work   sync.WaitGroup

	mu      sync.Mutex
	stats   map[string]*notify.Target
	handled uint64
	changed chan struct{}
}

// job is one notice on its way to several targets.
type job struct {
	notice *notify.Notice
	left   int // targets that are not done with it; under helper.mu
}

type queue struct {
	target *pendingTarget
	jobs   chan *job
}

// start makes the targets and their workers.
func (h *helper) start(ctx context.Context, s notify.Settings) {
	var hooks sync.Mutex // see hook: what a hook leaves behind is found as our child
	var targets []*pendingTarget
	for i, w := range s.Webhooks {
		label := fmt.Sprintf("webhook[%d]", i)
		targets = append(targets, &pendingTarget{label: label, wants: w.Wants,
			create: func() (target, error) { return newWebhook(label, w) }})
	}
	for _, e := range s.Exec {
		targets = append(targets, &pendingTarget{label: e.Name, wants: e.Wants,
			create: func() (target, error) { return newHook(e, &hooks) }})
	}
	for _, t := range targets {
		q := &queue{t, make(chan *job, queueLength)}
		h.queues = append(h.queues, q)
		h.stats[t.name()] = &notify.Target{}
		// What cannot be used is told before a notice is lost by it.
		if err := t.prepare(); err != nil {
			h.stats[t.name()].Unusable = err.Error()
			h.log.Warn("a target cannot be used", "target", t.name(), "error", err)
		}
		h.work.Go(func() { h.run(ctx, q) })
	}
	if len(targets) > 0 {
		h.changed <- struct{}{} // a first report, with who cannot be used
	}
}

// accept queues a notice for every target that wants it.
func (h *helper) accept(n *notify.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := &job{notice: n, left: 1}
	for _, q := range h.queues {
		if !q.target.wants(n.Severity, &n.Event) {
			continue
		}
		select {
		case q.jobs <- j:
			j.left++
		default:
			h.stats[q.target.name()].Dropped++
		}
	}
	h.finish(j)
}

// finish notes that one holder of a job is done with it. The caller holds mu.
func (h *helper) finish(j *job) {
	if j.left--; j.left == 0 {
		h.handled++
	}
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

func (h *helper) run(ctx context.Context, q *queue) {
	d := &q.target.digest
	for {
		select {
		case j, more := <-q.jobs:
			if !more {
				h.tell(ctx, q.target, d.take())
				return
			}
			if d.admit(j.notice, time.Now()) {
				h.tell(ctx, q.target, j.notice)
			}
			h.mu.Lock()
			h.finish(j)
			h.mu.Unlock()
		case <-d.due():
			h.tell(ctx, q.target, d.take())
		}
	}
}

// tell delivers one notice, nil for none, and counts what came of it.
func (h *helper) tell(ctx context.Context, t *pendingTarget, n *notify.Notice) {
	if n == nil {
		return
	}
	err := t.deliver(ctx, n)
	h.mu.Lock()
	stats := h.stats[t.name()]
	if t.created != nil {
		stats.Unusable = ""
	}
	if err == nil {
		stats.Delivered++
	} else {
		stats.Failed++
		stats.Error = err.Error()
	}
	h.mu.Unlock()
	if err != nil {
		h.log.Warn("notice was not delivered", "target", t.name(), "event_id", n.Event.ID, "error", err)
	}
}

// drain waits for the workers, and cancels them when they take too long.
func (h *helper) drain(cancel context.CancelFunc) {
	for _, q := range h.queues {
		close(q.jobs)
	}
	late := time.AfterFunc(notify.DrainTimeout, cancel)
	h.work.Wait()
	late.Stop()
	cancel()
}

// report writes the counts whenever they have changed, not more often than out
// takes them, and a last time at the end.
func (h *helper) report(ctx context.Context, out io.Writer) {
	enc := json.NewEncoder(out)
	for {
		select {
		case <-h.changed:
		case <-ctx.Done():
			_ = enc.Encode(h.snapshot())
			return
		}
		if enc.Encode(h.snapshot()) != nil {
			return // nobody listens; deliveries go on
		}
	}
}

func (h *helper) snapshot() notify.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := notify.Report{Handled: h.handled, Targets: map[string]notify.Target{}}
	for name, t := range h.stats {
		r.Targets[name] = *t
	}
	return r
}

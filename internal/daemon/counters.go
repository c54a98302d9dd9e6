// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/metrics"
	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// counters are what the daemon counts for Prometheus. It is safe for concurrent use.
type counters struct {
	d       *daemon
	metrics *metrics.Metrics

	mu    sync.Mutex
	kills map[metrics.Kill]uint64
	freed uint64
}

func newCounters(d *daemon) *counters {
	f := &counters{d: d, kills: make(map[metrics.Kill]uint64)}
	f.metrics = metrics.New(f, d.Version)
	return f
}

// count takes note of a notable event. It runs on the tracer's loop.
func (f *counters) count(e *wire.Event) {
	k := e.Kill
	if k == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kills[metrics.Kill{Rule: k.Rule, Mode: k.Mode, Outcome: k.Outcome}]++
	f.freed += k.FreedBytes
	if k.Outcome != wire.KillDone && k.Outcome != wire.KillPartial {
		return
	}
	var longest float64
	for _, p := range k.Processes {
		longest = max(longest, p.WaitMS)
	}
	f.metrics.ObserveKill(time.Duration(longest * float64(time.Millisecond)))
}

// Snapshot implements metrics.Source.
func (f *counters) Snapshot() metrics.Snapshot {
	stats := f.d.tracer.Stats()
	look, levels, _ := f.d.samplerLoop.latest()
	s := metrics.Snapshot{
		Events:    stats.Events,
		Lost:      stats.Refused,
		LastEvent: stats.CanarySeen,
		Running:   stats.Living,
		Dead:      stats.Dead,
		Orphans:   make(map[string]metrics.Orphans),
		Alerts:    f.d.alertLevels(levels),
		Kills:     make(map[metrics.Kill]uint64),
		Notices:   f.d.noticeCounts(),
	}
	s.History = f.d.history.figures()
	s.Leaks = f.leaks()
	for i := range look.Orphans {
		addOrphan(s.Orphans, &look.Orphans[i])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, n := range f.kills {
		s.Kills[k] = n
	}
	s.FreedBytes = f.freed
	return s
}

// patience is how long a scrape waits for the loop: without what that knows it has the rest.
const patience = 2 * time.Second

// leaks asks the loop what is counted of leaks.
func (f *counters) leaks() (counts map[string]leak.Counts) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var asked map[string]leak.Counts
	if f.d.tracer.Do(ctx, func(*tracker.Tree) { asked = f.d.tracer.Leaks().Programs() }) == nil {
		counts = asked
	}
	return counts
}

// alertLevels adds to the sampler loop's alerts those of the daemon itself.
func (d *daemon) alertLevels(levels map[string]int) map[string]int {
	all := maps.Clone(levels)
	if all == nil {
		all = make(map[string]int)
	}
	all[alertStopFile] = 0
	if d.stopNotice.inForce() {
		all[alertStopFile] = 1
	}
	all[alertState] = 0
	if d.stateSaver.condition() != nil {
		all[alertState] = 1
	}
	return all
}

// addOrphan adds an orphan to its verdict's figures. The tree of a stranded one is part
// of that of the direct orphan above it.
func addOrphan(by map[string]metrics.Orphans, p *wire.Process) {
	o := by[p.Orphan.Verdict]
	o.Count++
	if u := p.Orphan.Tree; u != nil && p.Orphan.Direct {
		if u.RSSBytes != nil {
			o.RSS += *u.RSSBytes
		}
		if u.SwapBytes != nil {
			o.Swap += *u.SwapBytes
		}
		if u.CPUPercent != nil {
			o.CPUPercent += *u.CPUPercent
		}
	}
	by[p.Orphan.Verdict] = o
}

// noticeCounts is what became of notices.
func (d *daemon) noticeCounts() map[metrics.Notice]uint64 {
	report, dropped := d.helpers.Stats()
	counts := helperCounts(report, dropped)
	if d.journal != nil {
		counts[metrics.Notice{Target: "journald", Result: "delivered"}] = d.journal.Sent()
		counts[metrics.Notice{Target: "journald", Result: "dropped"}] = d.journal.Dropped()
	}
	return counts
}

// helperCounts is what the helper reports of its targets, and what never reached it.
func helperCounts(report notify.Report, dropped uint64) map[metrics.Notice]uint64 {
	counts := map[metrics.Notice]uint64{{Target: "helper", Result: "dropped"}: dropped}
	for name, t := range report.Targets {
		counts[metrics.Notice{Target: name, Result: "delivered"}] = t.Delivered
		counts[metrics.Notice{Target: name, Result: "failed"}] = t.Failed
		counts[metrics.Notice{Target: name, Result: "dropped"}] = t.Dropped
	}
	return counts
}

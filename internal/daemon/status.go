// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/metrics"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// recentLoss is how long a loss of records counts as a problem.
const recentLoss = time.Hour

// statusDocument gathers how the daemon is, what is armed, and what is going on.
func (d *daemon) statusDocument(ctx context.Context) (*wire.Status, error) {
	host, _ := os.Hostname()
	s := &wire.Status{Schema: wire.Schema, Host: host, Version: d.Version, Stop: d.stopFile(), Notices: d.noticeStatus(),
		History: d.history.status(), Problems: []wire.StatusProblem{}, Rules: []wire.StatusRule{}}
	stats := d.tracer.Stats()
	s.Stream = wire.StatusStream{PID: os.Getpid(), StartedAt: d.startedAt, Lost: stats.Refused, Processes: stats.Living, Orphans: stats.Orphans}
	if !stats.CanarySeen.IsZero() {
		s.Stream.SeenAt = &stats.CanarySeen
	}
	var exhausted []string
	err := d.tracer.Do(ctx, func(*tracker.Tree) {
		s.Leaks = sumOpen(d.tracer.Leaks().List(false, false))
		s.Rules = d.ruleStatus()
		s.Decided = decidedStatus(d.trust.book.All(time.Now()))
		if why, until := d.control.HeldOnLoop(); why != "" {
			s.Hold = &wire.StatusHold{After: why, Until: boottime.Wall(boottime.Offset(), until)}
		}
		exhausted = d.control.ExhaustedOnLoop()
	})
	if err != nil {
		return nil, err
	}
	told, err := d.tracer.Recent(ctx, []string{wire.TypeKill, wire.TypeLost}, 0)
	if err != nil {
		return nil, err
	}
	s.LastKill = lastKill(told)
	d.addProblems(s, lostLately(told, boottime.Now()), exhausted)
	if s.State = wire.StatusWell; len(s.Problems) > 0 {
		s.State = wire.StatusUnwell
	}
	return s, nil
}

// ruleStatus is the rules in force. On the loop.
func (d *daemon) ruleStatus() []wire.StatusRule {
	rules, _ := d.cfg.Policy()
	list := make([]wire.StatusRule, 0, len(rules))
	for _, r := range rules {
		list = append(list, d.counters.rule(wire.StatusRule{Name: r.Name, Mode: cmp.Or(r.Mode, wire.ModeObserve), Action: cmp.Or(r.Action, policy.ActionKill)}))
	}
	return list
}

// decidedStatus counts what was decided, and lists some of it.
func decidedStatus(all []wire.Trust) wire.StatusDecided {
	d := wire.StatusDecided{List: all}
	for i := range all {
		switch all[i].Kind {
		case wire.TrustAck:
			d.Acked++
		case wire.TrustIgnore:
			d.Ignored++
		case wire.TrustSuspend:
			d.Suspended++
		}
	}
	// By name the kinds stand in the order of their weight, the last first.
	slices.SortStableFunc(d.List, func(a, b wire.Trust) int { return -cmp.Compare(a.Kind, b.Kind) })
	d.List = d.List[:min(len(d.List), wire.MaxStatusDecided)]
	return d
}

// rule adds how often the rule has acted.
func (f *counters) rule(r wire.StatusRule) wire.StatusRule {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, outcome := range []string{wire.KillDone, wire.KillPartial} {
		r.Kills += f.kills[metrics.Kill{Rule: r.Name, Mode: wire.ModeEnforce, Outcome: outcome}]
	}
	r.WouldKill = f.kills[metrics.Kill{Rule: r.Name, Mode: wire.ModeObserve, Outcome: wire.KillObserved}]
	return r
}

func sumOpen(leaks []wire.Leak) (sum wire.StatusLeaks) {
	for i := range leaks {
		l := &leaks[i]
		sum.Open++
		if l.Verdict == wire.VerdictLeaked {
			sum.Leaked++
		}
		sum.Processes += l.Processes.Now
		if l.RSSBytes != nil {
			sum.RSSBytes += *l.RSSBytes
		}
		if l.SwapBytes != nil {
			sum.SwapBytes += *l.SwapBytes
		}
	}
	return sum
}

// lastKill is the last one that signalled somebody, nil where none is remembered.
func lastKill(told []*wire.Event) *wire.StatusKill {
	for _, e := range slices.Backward(told) {
		if k := e.Kill; k != nil && (k.Outcome == wire.KillDone || k.Outcome == wire.KillPartial) {
			return &wire.StatusKill{Time: e.Time, Kill: *k}
		}
	}
	return nil
}

// lostLately counts the records that were lost less than recentLoss ago.
func lostLately(told []*wire.Event, now uint64) (records uint64) {
	for _, e := range told {
		if e.Lost != nil && e.Lost.Where == "" && e.TimeNS+uint64(recentLoss) > now {
			records += e.Lost.Records
		}
	}
	return records
}

// noticeStatus is what became of notices, by target.
func (d *daemon) noticeStatus() []wire.StatusNotices {
	byTarget := make(map[string]*wire.StatusNotices)
	for n, count := range d.noticeCounts() {
		t := byTarget[n.Target]
		if t == nil {
			t = &wire.StatusNotices{Target: n.Target}
			byTarget[n.Target] = t
		}
		switch n.Result {
		case "delivered":
			t.Delivered = count
		case "failed":
			t.Failed = count
		case "dropped":
			t.Dropped = count
		}
	}
	list := []wire.StatusNotices{}
	for _, t := range byTarget {
		if t.Target != "helper" || t.Dropped > 0 {
			list = append(list, *t)
		}
	}
	slices.SortFunc(list, func(a, b wire.StatusNotices) int { return cmp.Compare(a.Target, b.Target) })
	return list
}

// addProblems says what is not well, the weightiest first.
func (d *daemon) addProblems(s *wire.Status, lost uint64, exhausted []string) {
	add := func(hint, format string, args ...any) {
		s.Problems = append(s.Problems, wire.StatusProblem{What: fmt.Sprintf(format, args...), Hint: hint})
	}
	if stats := d.tracer.Stats(); !alive(stats, d.startedAt) {
		seen := stats.CanarySeen
		if seen.IsZero() {
			seen = d.startedAt
		}
		add("restart it: systemctl restart abot-trace", "events do not come: the daemon has not seen its own test process for %s",
			time.Since(seen).Round(time.Second))
	}
	if stop := s.Stop; stop != nil && stop.InForce {
		what := "no rule ends anything while " + stop.Path + " exists"
		if stop.Reason != "" {
			what += ": " + stop.Reason
		}
		add("abot-trace start-rules", "%s", what)
	}
	if lost > 0 {
		add("look for what makes so many processes: abot-trace events --type lost,resync",
			"%d records were lost within an hour: the lineage that they held is inferred", lost)
	}
	if len(exhausted) > 0 {
		add("budget.kills_per_minute is the limit; abot-trace events --type kill shows what it holds back",
			"the budget of kills is used up for %s", strings.Join(exhausted, ", "))
	}
	for _, condition := range d.conditions() {
		add("abot-trace doctor says more", "%s", condition)
	}
	report, dropped := d.helpers.Stats()
	if dropped > 0 {
		add("journalctl -u abot-trace-notify", "%d notices were dropped: the helper that delivers them does not take them", dropped)
	}
	for _, n := range s.Notices {
		if t := report.Targets[n.Target]; t.Error != "" && t.Failed > 0 {
			add("abot-trace notify-test tries it", "%d notices to %s failed, the last one with: %s", t.Failed, n.Target, t.Error)
		}
	}
}

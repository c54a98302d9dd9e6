// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestFollower(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	zero := 0
	process := func(pid int32) *wire.Process { return &wire.Process{PID: pid, StartNS: 7} }
	exited, killed := process(1), process(2)
	exited.Exit, killed.Exit = &wire.Exit{Code: &zero}, &wire.Exit{Signal: "SIGKILL"}
	spared, other := process(3), process(4)
	spared.Orphan, other.Orphan = &wire.Orphan{Verdict: wire.VerdictDeliberate}, &wire.Orphan{Verdict: wire.VerdictLeaked}
	var f Follower
	for pid := range int32(5) {
		if err := f.Act(Act{Decision: policy.Decision{Root: event.ID{PID: pid, Start: 7}}, Time: begun}); err != nil {
			t.Fatal(err)
		}
	}
	at := begun.Add(time.Hour)
	for _, e := range []wire.Event{{Type: wire.TypeExit, Process: exited}, {Type: wire.TypeExit, Process: killed},
		{Type: wire.TypeVerdict, Process: spared}, {Type: wire.TypeExit, Process: spared}, {Type: wire.TypeVerdict, Process: other}, {Type: wire.TypeAlert}} {
		e.Time = at
		f.Apply(&e)
	}
	for pid, want := range []string{FateOpen, FateItself, FateOther, FateDeliberate, FateOpen} {
		got := f.Acts[pid]
		if got.Fate != want || got.Until.IsZero() != (want == FateOpen) {
			t.Errorf("%d %s at %v, want %s", pid, got.Fate, got.Until, want)
		}
	}
}

// A sample has a rule on memory hold, and one on the host.
func TestSamples(t *testing.T) {
	for when, want := range map[string]int{"": 1, "host.memory_percent > 80": 1, "host.memory_percent > 90": 0} {
		rule := policy.Rule{Name: "large", Mode: wire.ModeEnforce, Verdict: []string{wire.VerdictLeaked}, Match: policy.Match{"memory_above": uint64(1000)}}
		if when != "" {
			rule.Match["when"] = when
		}
		acts := 0
		p, err := New(func() (*policy.Engine, error) { return policy.NewEngine(policy.Options{Rules: []policy.Rule{rule}}) },
			func(Act) error { acts++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		started := time.Unix(1000, 0)
		orphan := wire.Process{PID: 20, StartNS: 1e9, State: wire.StateRunning, Lineage: wire.LineageObserved, StartedAt: &started,
			SpawnedBy: &wire.Ref{PID: 10, StartNS: 1}, Orphan: &wire.Orphan{SinceNS: 2e9, Direct: true, Verdict: wire.VerdictLeaked,
				Leaker: &wire.Leaker{PID: 10, StartNS: 1}}}
		if err := p.Begin(&wire.Tree{Time: started.Add(10 * time.Second), Processes: []wire.Process{orphan}}); err != nil {
			t.Fatal(err)
		}
		rss := uint64(2000)
		sample := &wire.Event{Schema: wire.Schema, Type: wire.TypeSample, TimeNS: 20e9, Time: started.Add(20 * time.Second),
			Sample: &wire.Sample{Host: map[string]float64{"memory_percent": 85}, Processes: []wire.Sampled{{PID: 20, StartNS: 1e9, RSSBytes: &rss}}}}
		if err := p.Apply(sample); err != nil {
			t.Fatal(err)
		}
		if s, err := p.End(); err != nil || acts != want || !s.Sampled || s.Events != 0 {
			t.Errorf("%q: %v, %d acts, want %d; %+v", when, err, acts, want, s)
		}
	}
}

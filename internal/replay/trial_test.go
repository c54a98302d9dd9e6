// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

const leakID = "L0123456789ab"

// ofLeak is an orphan at 100 s that belongs to the leak.
func ofLeak(pid int32, verdict string) *wire.Process {
	p := orphaned(proc(pid, 10, "python3", "-c", "work"), 100, verdict)
	p.Orphan.Leak = leakID
	return p
}

// oneLeak records two workers of a master that dies at 100 s: one leak.
func oneLeak(s *stream) {
	s.add(10, wire.TypeFork, proc(10, 1))
	s.add(20, wire.TypeFork, proc(20, 10, "python3", "-c", "work"))
	s.add(30, wire.TypeFork, proc(30, 10, "python3", "-c", "work"))
	s.add(100, wire.TypeExit, proc(10, 1))
	s.add(100, wire.TypeOrphan, ofLeak(20, wire.VerdictLeaked))
	s.add(100, wire.TypeOrphan, ofLeak(30, wire.VerdictLeaked))
}

func told(l wire.Leak) func(*wire.Event) {
	l.ID, l.Name = leakID, "gunicorn: master"
	return func(e *wire.Event) { e.Leak = &l }
}

func ended(by string) wire.Leak {
	return wire.Leak{ID: leakID, State: wire.LeakStateEnded, EndedBy: by}
}

// try plays the stream to a trial of the rule.
func try(t *testing.T, rule policy.Rule, s *stream, now []wire.Leak) ([]Tried, Summary) {
	t.Helper()
	rule.Name = "rule"
	trial, err := NewTrial(rule, policy.Protect{})
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(s.Bytes())); ; {
		e := new(wire.Event)
		if err := d.Decode(e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if err := trial.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	list, summary, err := trial.End(now)
	if err != nil {
		t.Fatal(err)
	}
	return list, summary
}

func TestTrial(t *testing.T) {
	peak := uint64(3e9)
	code := 0
	leakOf := func(at float64, fate string) Tried {
		return Tried{Leak: leakID, Time: epoch.Add(time.Duration(at * float64(time.Second))), Processes: 2, Name: "worker", Fate: fate}
	}
	named := func(tried Tried, bytes uint64) Tried {
		tried.Name, tried.Bytes = "gunicorn: master", bytes
		return tried
	}
	without := func(fate string) Tried {
		return Tried{Time: epoch.Add(100 * time.Second), Processes: 2, Name: "worker", Fate: fate}
	}
	exit := func(p *wire.Process, x wire.Exit) *wire.Process {
		p.Exit = &x
		return p
	}
	tests := []struct {
		name   string
		rule   policy.Rule
		record func(*stream)
		now    []wire.Leak
		want   []Tried
	}{
		{name: "nothing", record: func(*stream) {}},
		{name: "still open", record: oneLeak, want: []Tried{leakOf(100, FateOpen)}},
		{name: "whatever the mode", rule: policy.Rule{Mode: wire.ModeObserve}, record: oneLeak, want: []Tried{leakOf(100, FateOpen)}},
		{name: "another command line", rule: policy.Rule{Match: policy.Match{"cmdline": "celery"}}, record: oneLeak},
		{name: "ended by itself, as an event tells", record: func(s *stream) {
			oneLeak(s)
			l := ended("exit")
			l.PeakBytes = &peak
			s.add(200, wire.TypeLeak, nil, told(l))
		}, want: []Tried{named(leakOf(100, FateItself), peak)}},
		{name: "killed", record: oneLeak, now: []wire.Leak{ended("kill")}, want: []Tried{leakOf(100, FateKilled)}},
		{name: "killed by the kernel for memory", record: oneLeak, now: []wire.Leak{ended("oom")}, want: []Tried{leakOf(100, FateOther)}},
		{name: "the last member proved deliberate", record: oneLeak, now: []wire.Leak{ended("")}, want: []Tried{leakOf(100, FateDeliberate)}},
		{name: "another leak has ended", record: oneLeak, now: []wire.Leak{{ID: "L000000000000", State: wire.LeakStateEnded, EndedBy: "exit"}},
			want: []Tried{leakOf(100, FateOpen)}},
		{name: "one member proved deliberate, and that stays", record: func(s *stream) {
			oneLeak(s)
			s.add(150, wire.TypeVerdict, ofLeak(30, wire.VerdictDeliberate))
		}, now: []wire.Leak{ended("exit")}, want: []Tried{leakOf(100, FateDeliberate)}},
		{name: "ignored", record: oneLeak, now: []wire.Leak{{ID: leakID, State: wire.LeakStateOpen, Trust: []wire.Trust{{Kind: wire.TrustIgnore}}}}},
		{name: "acked only", record: oneLeak, now: []wire.Leak{{ID: leakID, State: wire.LeakStateOpen, Trust: []wire.Trust{{Kind: wire.TrustAck}}}},
			want: []Tried{leakOf(100, FateOpen)}},
		{name: "gone before the age", rule: policy.Rule{Match: policy.Match{"orphaned_for": time.Hour}}, record: func(s *stream) {
			oneLeak(s)
			s.add(200, wire.TypeExit, proc(30, 10))
			s.add(200, wire.TypeExit, proc(20, 10))
			s.add(9000, wire.TypeFork, proc(9000, 1))
		}},
		{name: "after the age", rule: policy.Rule{Match: policy.Match{"orphaned_for": time.Hour}}, record: func(s *stream) {
			oneLeak(s)
			s.add(9000, wire.TypeFork, proc(9000, 1))
		}, want: []Tried{leakOf(3700, FateOpen)}},
		{name: "events older than leaks: it exits", record: func(s *stream) {
			killedMaster(s)
			s.add(300, wire.TypeExit, exit(proc(20, 10), wire.Exit{Code: &code}))
		}, want: []Tried{without(FateItself)}},
		{name: "events older than leaks: a signal", record: func(s *stream) {
			killedMaster(s)
			s.add(300, wire.TypeExit, exit(proc(20, 10), wire.Exit{Signal: "SIGKILL"}))
		}, want: []Tried{without(FateOther)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s stream
			tt.record(&s)
			got, summary := try(t, tt.rule, &s, tt.now)
			if uint64(summary.Events) != s.n {
				t.Errorf("saw %d events of %d", summary.Events, s.n)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %+v, want %+v", got, tt.want)
			}
			for i, want := range tt.want {
				if !got[i].Time.Equal(want.Time) {
					t.Errorf("at %s, want %s", got[i].Time, want.Time)
				}
				if got[i].Time = want.Time; got[i] != want {
					t.Errorf("got  %+v\nwant %+v", got[i], want)
				}
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// stream writes events as the daemon's NDJSON does.
type stream struct {
	bytes.Buffer
	n uint64
}

// add writes an event that happened seconds after boot.
func (s *stream) add(second float64, kind string, p *wire.Process, changes ...func(*wire.Event)) {
	s.n++
	after := time.Duration(second * float64(time.Second))
	e := wire.Event{Schema: wire.Schema, ID: fmt.Sprint("e", s.n), Seq: s.n, Time: epoch.Add(after),
		TimeNS: uint64(after), Type: kind, Process: p}
	for _, change := range changes {
		change(&e)
	}
	if err := json.NewEncoder(s).Encode(e); err != nil {
		panic(err)
	}
}

// proc is a process of these tests: it started pid seconds after boot.
func proc(pid, spawner int32, cmdline ...string) *wire.Process {
	p := &wire.Process{PID: pid, StartNS: uint64(pid) * 1e9, Comm: "worker", Cmdline: cmdline, User: "app",
		State: wire.StateRunning, Lineage: wire.LineageObserved}
	if spawner != 0 {
		p.SpawnedBy = &wire.Ref{PID: spawner, StartNS: uint64(spawner) * 1e9}
	}
	return p
}

func orphaned(p *wire.Process, second float64, verdict string) *wire.Process {
	p.Orphan = &wire.Orphan{SinceNS: uint64(second * 1e9), Direct: true, Verdict: verdict,
		Leaker: &wire.Leaker{PID: p.SpawnedBy.PID, StartNS: p.SpawnedBy.StartNS, Comm: "master", Cmdline: []string{"gunicorn:", "master"}}}
	return p
}

// killedMaster records a master 10 with a worker 20 whose child is 30; the master is killed
// at 100 s.
func killedMaster(s *stream) {
	s.add(10, wire.TypeFork, proc(10, 1))
	s.add(20, wire.TypeFork, proc(20, 10, "python3", "-c", "work"))
	s.add(30, wire.TypeFork, proc(30, 20, "python3", "-c", "work"))
	s.add(100, wire.TypeExit, proc(10, 1))
	s.add(100, wire.TypeOrphan, orphaned(proc(20, 10, "python3", "-c", "work"), 100, wire.VerdictLeaked))
}

// play runs rules over a stream and returns each act as "second rule root [targets]".
func play(t testing.TB, s *stream, rules ...policy.Rule) ([]string, Summary) {
	t.Helper()
	var acts []string
	p, err := New(func() (*policy.Engine, error) { return policy.NewEngine(policy.Options{Rules: rules}) },
		func(a Act) error {
			var targets []int32
			for _, target := range a.Targets {
				targets = append(targets, target.ID.PID)
			}
			acts = append(acts, fmt.Sprintf("%g %s %d %v", a.Time.Sub(epoch).Seconds(), a.Rule, a.Root.PID, targets))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	summary, err := p.Run(&s.Buffer)
	if err != nil {
		t.Fatal(err)
	}
	return acts, summary
}

func TestReplay(t *testing.T) {
	percent := func(v float64) func(*wire.Event) {
		return func(e *wire.Event) { e.Alert = &wire.Alert{Name: "memory", Value: &v} }
	}
	rss := uint64(600e6)
	tests := []struct {
		name   string
		rule   policy.Rule
		record func(*stream)
		want   []string
	}{
		{"at once", policy.Rule{}, killedMaster, []string{"100 rule 20 [20 30]"}},
		{"an age is reached between two events", policy.Rule{Match: policy.Match{"orphaned_for": time.Hour}}, func(s *stream) {
			killedMaster(s)
			s.add(90000, wire.TypeFork, proc(90000, 1))
		}, []string{"3700 rule 20 [20 30]"}},
		{"the stream ends before the age", policy.Rule{Match: policy.Match{"orphaned_for": time.Hour}}, killedMaster, nil},
		{"gone before the age", policy.Rule{Match: policy.Match{"orphaned_for": time.Hour}}, func(s *stream) {
			killedMaster(s)
			s.add(200, wire.TypeExit, proc(30, 20))
			s.add(200, wire.TypeExit, proc(20, 10))
			s.add(90000, wire.TypeFork, proc(90000, 1))
		}, nil},
		{"by the leaker's command line", policy.Rule{Match: policy.Match{"spawned_by": "gunicorn: master"}}, killedMaster, []string{"100 rule 20 [20 30]"}},
		{"another command line", policy.Rule{Match: policy.Match{"cmdline": "celery"}}, killedMaster, nil},
		{"deliberate", policy.Rule{}, func(s *stream) {
			s.add(20, wire.TypeFork, proc(20, 10))
			s.add(100, wire.TypeOrphan, orphaned(proc(20, 10), 100, wire.VerdictDeliberate))
		}, nil},
		{"host memory by its alert", policy.Rule{Match: policy.Match{"when": "host.memory_percent > 85"}}, func(s *stream) {
			killedMaster(s)
			s.add(150, wire.TypeAlert, nil, percent(80))
			s.add(160, wire.TypeAlert, nil, percent(90))
		}, []string{"160 rule 20 [20 30]"}},
		{"memory of the tree", policy.Rule{Match: policy.Match{"memory_above": uint64(500e6)}}, func(s *stream) {
			s.add(20, wire.TypeFork, proc(20, 10))
			p := orphaned(proc(20, 10), 100, wire.VerdictLeaked)
			p.Orphan.Tree = &wire.Usage{Processes: 1, RSSBytes: &rss}
			s.add(100, wire.TypeOrphan, p)
		}, []string{"100 rule 20 [20]"}},
		{"memory that nobody told", policy.Rule{Match: policy.Match{"memory_above": uint64(1)}}, killedMaster, nil},
		{"a child of the orphan is part of its tree later", policy.Rule{Match: policy.Match{"orphaned_for": time.Hour}}, func(s *stream) {
			killedMaster(s)
			s.add(3000, wire.TypeFork, proc(3000, 30))
			s.add(4000, wire.TypeFork, proc(4000, 1))
		}, []string{"3700 rule 20 [20 30 3000]"}},
		{"what changed since is seen by the next pass", policy.Rule{Match: policy.Match{"cmdline": "renamed"}}, func(s *stream) {
			killedMaster(s)
			s.add(120, wire.TypeExec, proc(20, 10, "renamed"))
			s.add(200, wire.TypeFork, proc(200, 1))
		}, []string{"200 rule 20 [20 30]"}},
		{"guessed lineage is told but has no followers", policy.Rule{Verdict: policy.Verdicts}, func(s *stream) {
			p := orphaned(proc(20, 10), 100, wire.VerdictUnknown)
			p.Lineage = wire.LineageUnknown
			s.add(100, wire.TypeOrphan, p)
			s.add(200, wire.TypeFork, proc(200, 1))
		}, []string{"101 rule 20 [20]"}}, // when the verdict has settled
		{"another boot", policy.Rule{Match: policy.Match{"orphaned_for": time.Hour}}, func(s *stream) {
			killedMaster(s)
			s.add(5, wire.TypeFork, proc(5, 1))
			s.add(90000, wire.TypeFork, proc(90000, 1))
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s stream
			tt.record(&s)
			tt.rule.Name = "rule"
			if got, _ := play(t, &s, tt.rule); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	var s stream
	killedMaster(&s)
	s.WriteString("{\"schema\": 2, \"type\": \"fork\"}\nnot json\n\n")
	s.WriteString(strings.Repeat("x", 2*maxLine) + "\n")
	s.add(110, wire.TypeLost, nil, func(e *wire.Event) { e.Lost = &wire.Lost{Records: 7} })
	s.add(110, wire.TypeFork, proc(110, 1), func(e *wire.Event) { e.ID = "e1" })
	s.WriteString(`{"schema": 1, "type": "fork", "id": "cut`)
	_, got := play(t, &s)
	want := Summary{Events: 6, Repeated: 1, Unreadable: 4, Lost: 7, Orphans: 1,
		From: epoch.Add(10 * time.Second), To: epoch.Add(110 * time.Second)}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestMemoryIsBounded: what is dead and needed by nobody is forgotten.
func TestMemoryIsBounded(t *testing.T) {
	var s stream
	for pid := int32(100); pid < 1100; pid++ {
		s.add(float64(pid), wire.TypeFork, proc(pid, 99))
		s.add(float64(pid)+0.5, wire.TypeExit, proc(pid, 99))
	}
	p, err := New(func() (*policy.Engine, error) { return policy.NewEngine(policy.Options{}) }, func(Act) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(&s.Buffer); err != nil {
		t.Fatal(err)
	}
	if got := len(p.tree.nodes); got > 1 {
		t.Errorf("got %d processes, want at most their spawner", got)
	}
}

func TestErrorsEndTheRun(t *testing.T) {
	broken := errors.New("broken")
	if _, err := New(func() (*policy.Engine, error) { return nil, broken }, nil); !errors.Is(err, broken) {
		t.Errorf("engine: got %v", err)
	}
	var s stream
	killedMaster(&s)
	p, err := New(func() (*policy.Engine, error) {
		return policy.NewEngine(policy.Options{Rules: []policy.Rule{{Name: "rule"}}})
	}, func(Act) error { return broken })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(&s.Buffer); !errors.Is(err, broken) {
		t.Errorf("act: got %v", err)
	}
}

// FuzzRun: any stream ends, and nothing that it says makes an act upon a process that
// it has not shown to be a living orphan.
func FuzzRun(f *testing.F) {
	var s stream
	killedMaster(&s)
	f.Add(s.Bytes())
	f.Add([]byte(`{"schema":1,"type":"orphan","time_ns":18446744073709551615,"process":{"pid":-5,"start_ns":1,"orphan":{"verdict":"leaked"},"spawned_by":{"pid":-5,"start_ns":1}}}`))
	f.Add([]byte(`{"schema":1,"type":"fork","process":{"pid":2,"start_ns":1,"spawned_by":{"pid":3,"start_ns":1}}}
{"schema":1,"type":"orphan","process":{"pid":3,"start_ns":1,"lineage":"observed","orphan":{"verdict":"leaked"},"spawned_by":{"pid":2,"start_ns":1}}}`))
	rules := []policy.Rule{
		{Name: "one"}, {Name: "two", Match: policy.Match{"orphaned_for": time.Second, "memory_above": uint64(1)}},
		{Name: "three", Verdict: policy.Verdicts, Match: policy.Match{"spawned_by": "x", "when": "host.memory_percent > 5"}, For: time.Second},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p *Player
		p, err := New(func() (*policy.Engine, error) { return policy.NewEngine(policy.Options{Rules: rules}) },
			func(a Act) error {
				for _, target := range a.Targets {
					n := p.tree.nodes[target.ID]
					if n == nil || n.dead {
						t.Errorf("%s acts on %v, which does not live", a.Rule, target.ID)
					}
				}
				if root := p.tree.nodes[a.Decision.Root]; root == nil || root.process.Orphan == nil {
					t.Errorf("%s acts on %v, which is no orphan", a.Rule, a.Decision.Root)
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkRun(b *testing.B) {
	var s stream
	for pid := int32(100); pid < 2100; pid++ {
		s.add(float64(pid), wire.TypeFork, proc(pid, 99))
		s.add(float64(pid)+0.5, wire.TypeExit, proc(pid, 99))
	}
	data := s.Bytes()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		s := stream{Buffer: *bytes.NewBuffer(data)}
		play(b, &s, policy.Rule{Name: "rule", Match: policy.Match{"orphaned_for": time.Hour}})
	}
}

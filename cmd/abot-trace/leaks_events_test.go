// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/fingerprint"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A life is one member of a leak: what it holds, and how much of a processor it keeps busy.
type life struct {
	id          event.ID
	from, until uint64 // ns since the beginning
	bytes       uint64
	busy        float64
}

// A fortnight is leaks of known cost, and the events in which the daemon would have told them.
type fortnight struct {
	begin time.Time
	lives map[string][]life // by program
	count map[string]int    // leaks, by program
	set   *leak.Set
	out   *json.Encoder
	told  int
}

const day = uint64(24 * time.Hour)

// step is one thing that happens.
type step struct {
	at uint64
	do func(now uint64)
}

// newFortnight writes a fortnight of so many leaks to w.
func newFortnight(t *testing.T, w io.Writer, leaks int) *fortnight {
	f := &fortnight{begin: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), lives: make(map[string][]life), count: make(map[string]int),
		set: leak.New("boot", 0), out: json.NewEncoder(w)}
	random := rand.New(rand.NewPCG(1, 2))
	var steps []step
	for n := range leaks {
		steps = append(steps, f.leak(n, fmt.Sprintf("job%d.py", n%7), random)...)
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(int64(a.at) - int64(b.at)) })
	for _, s := range steps {
		for next := f.set.Next(); next != 0 && next <= s.at; next = f.set.Next() {
			f.tell(t, next)
		}
		s.do(s.at)
		f.tell(t, s.at)
	}
	f.tell(t, 16*day)
	return f
}

// leak plans one leak of one to six members, each of which ends at a time of its own.
func (f *fortnight) leak(n int, program string, random *rand.Rand) (steps []step) {
	f.count[program]++
	at := 1 + random.Uint64N(13*day)
	leaker := event.ID{PID: int32(1000 + 10*n), Start: at}
	for m := range 1 + random.IntN(6) {
		l := life{id: event.ID{PID: leaker.PID + 1 + int32(m), Start: at}, from: at, until: at + uint64(time.Minute) + random.Uint64N(day),
			bytes: 1<<20 + random.Uint64N(1<<30), busy: random.Float64()}
		f.lives[program] = append(f.lives[program], l)
		cpu := func(now uint64) uint64 { return uint64(l.busy * float64(now-l.from)) }
		steps = append(steps, step{at, func(now uint64) {
			f.set.Judge(leak.Orphan{ID: l.id, Leaker: leaker, Since: now, Direct: true, Verdict: leak.Leaked, Describe: func() leak.Leaker {
				return leak.Leaker{Comm: "python3", Fingerprint: fingerprint.Fingerprint{Program: program, Name: program}}
			}}, now)
			f.set.Sample([]leak.Usage{{ID: l.id, RSS: l.bytes}}, now)
		}})
		for now := at + uint64(time.Hour); now < l.until; now += uint64(time.Hour) {
			steps = append(steps, step{now, func(now uint64) {
				f.set.Sample([]leak.Usage{{ID: l.id, RSS: l.bytes / 2, Swap: l.bytes - l.bytes/2, CPU: cpu(now)}}, now)
			}})
		}
		steps = append(steps, step{l.until, func(now uint64) {
			f.set.Exit(leak.Exit{ID: l.id, Time: now, Ending: leak.ByExit, CPU: cpu(now)})
		}})
	}
	return steps
}

// tell writes what the set has to tell as events.
func (f *fortnight) tell(t *testing.T, now uint64) {
	for _, c := range f.set.Due(now) {
		l := c.Leak
		at := func(ns uint64) time.Time { return f.begin.Add(time.Duration(ns)) }
		bytes, cpu := l.ByteSeconds(c.Time), l.CPUSeconds()
		w := &wire.Leak{ID: l.ID, Change: c.Kind.String(), State: wire.LeakStateOpen, Name: l.Leaker.Fingerprint.Name, Program: l.Leaker.Fingerprint.Program,
			Verdict: l.Verdict.String(), OpenedAt: at(l.OpenedAt), OpenedNS: l.OpenedAt, ByteSeconds: &bytes, CPUSeconds: &cpu,
			Processes: wire.LeakCount{Now: l.Now, Peak: l.Peak, Total: l.Total}}
		if !l.Open() {
			end := at(l.EndedAt)
			w.State, w.EndedAt, w.EndedBy = wire.LeakStateEnded, &end, l.EndedBy.String()
		}
		f.told++
		if err := f.out.Encode(&wire.Event{Schema: wire.Schema, ID: fmt.Sprint("b-", f.told), Type: wire.TypeLeak, Time: at(c.Time), TimeNS: c.Time, Leak: w}); err != nil {
			t.Fatal(err)
		}
	}
}

// cost is what a program's leaks have cost between two instants, by what was planned.
func (f *fortnight) cost(program string, from, until uint64) (byteSeconds, cpuSeconds float64) {
	for _, l := range f.lives[program] {
		if a, b := max(l.from, from), min(l.until, until); a < b {
			byteSeconds += float64(l.bytes) * float64(b-a) / 1e9
			cpuSeconds += l.busy * float64(b-a) / 1e9
		}
	}
	return byteSeconds, cpuSeconds
}

// TestLeaksOfAFortnight: leaks --events --by program has the sums of what happened, over all of
// it and inside a range.
func TestLeaksOfAFortnight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewWriter(file)
	f := newFortnight(t, buffered, 700)
	if err := buffered.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	near := func(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance*want }
	sums := func(args ...string) map[string]wire.LeakGroup {
		t.Helper()
		var out bytes.Buffer
		if err := newApp(&out, io.Discard).Run(append([]string{"abot-trace", "leaks", "--events", path, "--by", "program", "--json"}, args...)); err != nil {
			t.Fatal(err)
		}
		var doc wire.Leaks
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		groups := make(map[string]wire.LeakGroup)
		for _, g := range doc.Groups {
			groups[g.Key] = g
		}
		return groups
	}
	whole := sums()
	if len(whole) != 7 {
		t.Fatalf("%d programs", len(whole))
	}
	for program, g := range whole {
		bytes, cpu := f.cost(program, 0, 16*day)
		if g.Leaks != f.count[program] || g.Open != 0 || g.Processes != len(f.lives[program]) || !near(g.ByteSeconds, bytes, 1e-9) || !near(g.CPUSeconds, cpu, 1e-6) {
			t.Errorf("%s: %+v, want %d leaks of %d processes, %v and %v", program, g, f.count[program], len(f.lives[program]), bytes, cpu)
		}
	}
	at := func(n uint64) string { return f.begin.Add(time.Duration(n * day)).Format(time.RFC3339) }
	inside, parts := sums("--since", at(5), "--until", at(8)), map[string]float64{}
	for program, g := range inside {
		// A leak is told of when its members change, its memory between two tellings is even. Its
		// processors' time is what samples each hour have seen.
		bytes, cpu := f.cost(program, 5*day, 8*day)
		if !near(g.ByteSeconds, bytes, 1e-3) || !near(g.CPUSeconds, cpu, 0.05) {
			t.Errorf("%s inside: %v and %v, want %v and %v", program, g.ByteSeconds, g.CPUSeconds, bytes, cpu)
		}
	}
	for _, bounds := range [][]string{{"--until", at(5)}, {"--since", at(5), "--until", at(8)}, {"--since", at(8)}} {
		for program, g := range sums(bounds...) {
			parts[program] += g.ByteSeconds
		}
	}
	for program, g := range whole {
		if !near(parts[program], g.ByteSeconds, 1e-9) {
			t.Errorf("%s: the parts make %v, the whole is %v", program, parts[program], g.ByteSeconds)
		}
	}
}

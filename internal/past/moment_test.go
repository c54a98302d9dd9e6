// SPDX-License-Identifier: Apache-2.0

package past

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/inspect"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A world is a tree that is recorded, with those who ask about it as it stands. Its pids are
// above all that the kernel gives.
type world struct {
	t     *testing.T
	store *history.Store
	rec   *Recorder
	tree  *tracker.Tree
	names *describe.Names
	conv  *describe.Converter
	now   *inspect.Inspector

	living []event.ID
	pid    int32
	seq    uint64
	told   []*wire.Event // everything, as it happened
	use    map[event.ID]describe.Use
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: openStore(t), tree: tracker.New(0), pid: 5_000_000, use: make(map[event.ID]describe.Use)}
	w.rec = NewRecorder(w.store)
	w.names = describe.NewNames(w.tree)
	w.conv = describe.NewConverter(w.names)
	w.now = inspect.New(w, w)
	first := event.Task{ID: event.ID{PID: w.pid, Start: boottime.Now()}, HostPID: w.pid, Comm: event.MakeComm("init"), NSInit: true}
	w.tree.Begin([]event.Task{first}, boottime.Now()).End()
	w.living = []event.ID{first.ID}
	w.tree.SetRecorder(w.rec, w.rec.Hide)
	w.checkpoint()
	return w
}

func (w *world) Do(_ context.Context, fn func(*tracker.Tree)) error { fn(w.tree); return nil }
func (w *world) Living() int                                        { return w.tree.Living() }
func (w *world) Usage() (tasks []event.Task, err error) {
	for id, use := range w.use {
		tasks = append(tasks, event.Task{ID: id, RSS: use.RSS, Swap: use.Swap})
	}
	return tasks, nil
}

func (w *world) checkpoint() {
	w.t.Helper()
	if err := w.rec.Checkpoint(w.tree, Start{EventIDs: "world", EventSeq: w.seq, Names: w.names.Known()}); err != nil {
		w.t.Fatal(err)
	}
}

// apply applies a record, and remembers the events that it makes.
func (w *world) apply(e *event.Event) {
	e.Time, e.HostPID = boottime.Now(), e.Subject.PID
	for _, c := range w.tree.Apply(e) {
		var p tracker.Process
		if kind := describe.LifecycleType(c.Kind); kind != "" && w.tree.Describe(&c, &p) {
			if p.Orphan != nil {
				o := *p.Orphan
				p.Orphan = &o
			}
			live := new(wire.Event)
			w.conv.Lifecycle(live, new(describe.Scratch), c.Kind, &p, c.Sent)
			w.publish(live, c.Time)
		}
		if c.Kind == tracker.Orphaned || c.Kind == tracker.OrphanedAgain {
			w.judge(c.ID)
		}
	}
}

func (w *world) publish(e *wire.Event, ns uint64) {
	w.seq++
	e.Schema, e.Seq, e.TimeNS, e.Time, e.ID = wire.Schema, w.seq, ns, w.conv.Wall(ns), fmt.Sprintf("world-%d", w.seq)
	w.told = append(w.told, e)
}

// judge holds something against an orphan, and tells it.
func (w *world) judge(id event.ID) {
	w.tree.SetVerdict(id, []string{wire.VerdictLeaked, wire.VerdictDeliberate, wire.VerdictUnknown}[rand.IntN(3)], rand.IntN(4) == 0,
		[]string{"its spawner was killed", fmt.Sprintf("it is process %d", id.PID)})
	w.tree.SetLeak(id, "L0123456789ab")
	p, ok := w.tree.Get(id)
	if !ok {
		return
	}
	o := *p.Orphan
	p.Orphan = &o
	e := &wire.Event{Type: wire.TypeOrphan, Process: w.conv.Process(&p)}
	w.publish(e, boottime.Now())
	w.rec.Told(e)
}

func (w *world) fork(spawner event.ID) event.ID {
	w.pid++
	id := event.ID{PID: w.pid, Start: boottime.Now()}
	w.apply(&event.Event{Kind: event.KindFork, Subject: id, Comm: event.MakeComm("worker"), UID: uint32(rand.IntN(3)),
		Fork: event.Fork{Spawner: spawner, Caller: spawner}})
	w.living = append(w.living, id)
	return id
}

// step has one thing happen.
func (w *world) step() {
	id := w.living[rand.IntN(len(w.living))]
	switch n := rand.IntN(10); {
	case n < 4 || len(w.living) < 5:
		w.fork(id)
	case n < 6:
		w.apply(&event.Event{Kind: event.KindExec, Subject: id, Comm: event.MakeComm("prog"), Ordinal: uint32(w.seq + 1),
			Exec: event.Exec{Filename: "/usr/bin/prog", Cmdline: fmt.Sprintf("prog\x00--n=%d\x00", rand.IntN(9))}})
	case n < 7:
		w.apply(&event.Event{Kind: event.KindSignal, Subject: id, Signal: event.Signal{Signal: unix.SIGKILL, Sender: w.living[0],
			SenderComm: event.MakeComm("init"), Effect: event.Fatal}})
	case id != w.living[0]:
		w.exit(id)
	}
}

func (w *world) exit(id event.ID) {
	w.living = slices.DeleteFunc(w.living, func(l event.ID) bool { return l == id })
	delete(w.use, id)
	w.apply(&event.Event{Kind: event.KindExit, Subject: id, Comm: event.MakeComm("prog"),
		Exit: event.Exit{Status: event.Status(rand.IntN(2) * 9), Adopter: w.living[0], AdopterKind: event.AdopterInit, HasChildren: true}})
}

// sample measures some.
func (w *world) sample() {
	for range 3 {
		w.use[w.living[rand.IntN(len(w.living))]] = describe.Use{RSS: uint64(rand.IntN(1 << 20)), Swap: uint64(rand.IntN(1 << 10))}
	}
	uses := make(map[event.ID]describe.Use)
	for id, use := range w.use {
		uses[id] = use
	}
	w.rec.Sample(&Sample{Time: boottime.Now(), Uses: uses})
}

// instant is a time around which nothing happens for as long as the clocks of two segments may
// differ: by how long it took to read them.
func (w *world) instant() time.Time {
	const apart = uint64(300 * time.Microsecond)
	ns := boottime.Now() + apart
	at := boottime.Wall(boottime.Offset(), ns)
	for boottime.Now() <= ns+apart {
		runtime.Gosched()
	}
	return at
}

// settle has everything on the disk.
func (w *world) settle() {
	w.store.Flush()
	w.store.Wait(time.Minute)
}

// A look is what was answered at a time.
type look struct {
	at      time.Time
	tree    *wire.Tree
	orphans []wire.Process
}

// sameTimes has times be the same that differ by how long it takes to read two clocks.
var sameTimes = cmpopts.EquateApproxTime(time.Millisecond)

// TestAMomentIsWhatWasShown looks at a tree again and again while processes come and go, and
// then asks about those times.
func TestAMomentIsWhatWasShown(t *testing.T) {
	w := newWorld(t)
	var looks []look
	for i := range 40 {
		for range rand.IntN(20) {
			w.step()
		}
		if i%10 == 0 {
			w.sample()
		}
		if i%14 == 13 {
			w.checkpoint()
		}
		l := look{at: w.instant()}
		var err, err2 error
		l.tree, err = w.now.Tree(t.Context())
		l.orphans, err2 = w.now.Orphans(t.Context())
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		looks = append(looks, l)
	}
	w.settle()
	for i, l := range looks {
		m, err := At(w.store, l.at)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := m.Tree(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tree.Host = l.tree.Host
		opts := cmp.Options{sameTimes, cmpopts.IgnoreFields(wire.Process{}, "CPUSeconds"), cmpopts.IgnoreFields(wire.Tree{}, "Time")}
		if i%10 != 0 { // no sample was taken for this look
			opts = append(opts, cmpopts.IgnoreFields(wire.Process{}, "RSSBytes", "SwapBytes"), cmpopts.IgnoreFields(wire.Usage{}, "RSSBytes", "SwapBytes"))
		}
		if diff := cmp.Diff(l.tree, tree, opts); diff != "" {
			t.Fatalf("look %d of %d: tree: %s", i, len(looks), diff)
		}
		orphans, err := m.Orphans(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l.orphans, orphans, opts); diff != "" {
			t.Fatalf("look %d of %d: orphans: %s", i, len(looks), diff)
		}
	}
	events := w.events(Query{})
	if diff := cmp.Diff(w.told, events, sameTimes); diff != "" {
		t.Errorf("events: %s", diff)
	}
}

func (w *world) events(q Query) (list []*wire.Event) {
	w.t.Helper()
	missed, err := Events(w.t.Context(), w.store, q, func(e *wire.Event) error {
		e.NotableSeq = 0
		list = append(list, e)
		return nil
	})
	if err != nil || missed != 0 {
		w.t.Fatalf("%v, %d missed", err, missed)
	}
	for _, e := range w.told {
		e.NotableSeq = 0
	}
	return list
}

// TestEventsOfARange asks for parts of what was told.
func TestEventsOfARange(t *testing.T) {
	w := newWorld(t)
	for range 400 {
		w.step()
	}
	from := w.instant()
	begin := len(w.told)
	for range 200 {
		w.step()
	}
	w.checkpoint()
	for range 200 {
		w.step()
	}
	to := w.instant()
	end := len(w.told)
	for range 100 {
		w.step()
	}
	w.settle()
	pid := w.told[(begin+end)/2].Process.PID
	for what, test := range map[string]struct {
		q    Query
		pick func(*wire.Event) bool
	}{
		"range":   {Query{From: from, To: to}, func(*wire.Event) bool { return true }},
		"exits":   {Query{From: from, To: to, Types: []string{wire.TypeExit}}, func(e *wire.Event) bool { return e.Type == wire.TypeExit }},
		"orphans": {Query{From: from, To: to, Types: []string{wire.TypeOrphan}}, func(e *wire.Event) bool { return e.Type == wire.TypeOrphan }},
		"pid": {Query{From: from, To: to, PID: pid}, func(e *wire.Event) bool {
			o := e.Process.Orphan
			return e.Process.PID == pid || e.Type == wire.TypeFork && e.Process.SpawnedBy.PID == pid ||
				e.Signal != nil && e.Signal.Sender.PID == pid || e.Type == wire.TypeOrphan && o.Leaker != nil && o.Leaker.PID == pid
		}},
	} {
		got := w.events(test.q)
		var want []*wire.Event
		for _, e := range w.told[begin:end] {
			if test.pick(e) {
				want = append(want, e)
			}
		}
		if diff := cmp.Diff(want, got, sameTimes); diff != "" || len(want) == 0 {
			t.Errorf("%s: %d wanted, %d came: %s", what, len(want), len(got), diff)
		}
	}
}

// TestSamples wants a sample to tell what the one before did not, also where a segment begins
// in between.
func TestSamples(t *testing.T) {
	w := newWorld(t)
	a, b := w.fork(w.living[0]), w.fork(w.living[0])
	for i, uses := range []map[event.ID]describe.Use{{a: {RSS: 10}, b: {RSS: 20, Swap: 1}}, {a: {RSS: 10}, b: {RSS: 21, Swap: 1}}, {b: {RSS: 21, Swap: 1}}} {
		if i == 2 {
			w.checkpoint()
		}
		w.rec.Sample(&Sample{Time: boottime.Now(), Host: map[string]float64{"load1": float64(i)}, Uses: uses})
	}
	w.settle()
	var got []string
	_, err := Events(t.Context(), w.store, Query{Types: []string{wire.TypeAlert}, Samples: true}, func(e *wire.Event) error {
		text := fmt.Sprintf("%s %v:", e.Type, e.Sample.Host)
		for _, p := range e.Sample.Processes {
			if p.RSSBytes == nil {
				text += fmt.Sprintf(" %d gone", p.PID-w.pid)
			} else {
				text += fmt.Sprintf(" %d %d+%d", p.PID-w.pid, *p.RSSBytes, *p.SwapBytes)
			}
		}
		got = append(got, text)
		return nil
	})
	want := []string{"sample map[load1:0]: -1 10+0 0 20+1", "sample map[load1:1]: 0 21+1", "sample map[load1:2]: -1 gone"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
}

func FuzzSample(f *testing.F) {
	whole, err := (&Sample{Time: 5, Host: map[string]float64{"load1": 1}, Uses: map[event.ID]describe.Use{{PID: 1, Start: 2}: {RSS: 3}}}).encode(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Sample
		if news, ok := s.decode(b); ok && news.Time != s.Time {
			t.Errorf("%+v of %+v", news, s)
		}
	})
}

func TestMomentsThatWereNotSeen(t *testing.T) {
	w := newWorld(t)
	before := time.Now().Add(-time.Hour)
	child := w.fork(w.living[0])
	w.settle()
	if _, err := At(w.store, before); !errors.Is(err, history.ErrNoCheckpoint) || !strings.Contains(err.Error(), "it begins at ") {
		t.Errorf("before the first: %v", err)
	}
	m, err := At(w.store, time.Now().Add(time.Hour))
	if err != nil || len(m.Notes) != 2 || !strings.HasPrefix(m.Notes[0], "nothing was seen between ") || m.Notes[1] != "no sample of memory is kept from before" {
		t.Errorf("long after the last: %v, %q", err, m.Notes)
	}
	w.exit(child)
	died := w.told[len(w.told)-1].Time
	for range 5000 { // more than are remembered of the dead
		w.exit(w.fork(w.living[0]))
	}
	w.settle()
	now := w.instant()
	m, err = AtProcess(t.Context(), w.store, now, child.PID)
	if err != nil || len(m.Notes) == 0 || !strings.HasPrefix(m.Notes[0], fmt.Sprintf("pid %d was gone by then: it is told as of ", child.PID)) {
		t.Fatalf("a forgotten process: %v, %q", err, m.Notes)
	}
	p, err := m.Process(t.Context(), child.PID)
	if err != nil || p.State != wire.StateDead || m.Time.Sub(died).Abs() > time.Millisecond {
		t.Errorf("a forgotten process: %v, %+v at %v, not %v", err, p, m.Time, died)
	}
	m, err = AtProcess(t.Context(), w.store, now, 4_999_999)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Process(t.Context(), 4_999_999); !errors.Is(err, inspect.ErrNoProcess) {
		t.Errorf("one that never was: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package past

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// BenchmarkPast asks a history of three million records, 1,000 leaks among them: about the worst
// moment, which is the end of a full segment, about one process, and about all leaks.
func BenchmarkPast(b *testing.B) {
	const lives = 1_000_000
	dir, err := rootfile.Own.MakeDir(filepath.Join(b.TempDir(), "history"), 0o700)
	if err != nil {
		b.Fatal(err)
	}
	store, err := history.Open(dir, history.Options{Machine: "machine", Boot: "boot", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = errors.Join(store.Close(), dir.Close()) })
	r := &busyRecorder{b: b, rec: NewRecorder(store), tree: tracker.New(0), pid: 10_000}
	r.names = describe.NewNames(r.tree)
	r.fill(lives, store)

	st := store.Stats()
	b.ReportMetric(float64(st.Bytes[history.Stream])/float64(st.Entries), "bytes/record")
	b.Run("at", func(b *testing.B) {
		for b.Loop() {
			if _, err := At(store, r.full); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pid", func(b *testing.B) {
		for b.Loop() {
			if _, found, err := store.View(history.Stream).LastAbout(10_000+lives/2, time.Now()); err != nil || !found {
				b.Fatal(err)
			}
		}
	})
	b.Run("events-pid", func(b *testing.B) {
		for b.Loop() {
			n := 0
			if _, err := Events(b.Context(), store, Query{PID: 10_000 + lives/2}, func(*wire.Event) error { n++; return nil }); err != nil || n < 3 {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("leaks", func(b *testing.B) {
		for b.Loop() {
			if list, _, err := Leaks(b.Context(), store, time.Time{}, ""); err != nil || len(list) != 1000 {
				b.Fatal(len(list), err)
			}
		}
	})
}

// A busyRecorder records processes that come and go.
type busyRecorder struct {
	b     *testing.B
	rec   *Recorder
	tree  *tracker.Tree
	names *describe.Names
	pid   int32
	full  time.Time // just before a segment ended
}

func (r *busyRecorder) fill(lives int, store *history.Store) {
	root := event.ID{PID: 1, Start: 1}
	r.tree.Begin([]event.Task{{ID: root, HostPID: 1, Comm: event.MakeComm("init"), NSInit: true}}, boottime.Now()).End()
	r.tree.SetRecorder(r.rec, r.rec.Hide)
	for i := range lives {
		if r.rec.NeedsCheckpoint() {
			r.full = time.Now()
			if err := r.rec.Checkpoint(r.tree, Start{EventIDs: "bench", Names: r.names.Known()}); err != nil {
				r.b.Fatal(err)
			}
		}
		id := event.ID{PID: r.pid + int32(i), Start: boottime.Now()}
		at := func(kind event.Kind) *event.Event {
			return &event.Event{Kind: kind, Subject: id, HostPID: id.PID, Time: boottime.Now(), Comm: event.MakeComm("worker")}
		}
		e := at(event.KindFork)
		e.Fork = event.Fork{Spawner: root, Caller: root}
		r.tree.Apply(e)
		e = at(event.KindExec)
		e.Ordinal, e.Exec = 1, event.Exec{Filename: "/usr/bin/worker", Cmdline: fmt.Sprintf("worker\x00--job=%d\x00", i%1000)}
		r.tree.Apply(e)
		e = at(event.KindExit)
		e.Exit = event.Exit{CPUTime: uint64(i % 5000)}
		r.tree.Apply(e)
		if i%(lives/1000) == 0 {
			r.rec.Told(&wire.Event{Schema: wire.Schema, Type: wire.TypeLeak, TimeNS: boottime.Now(), Leak: &wire.Leak{ID: fmt.Sprintf("L%012x", i), State: wire.LeakStateOpen}})
		}
		if i%1000 == 0 {
			r.rec.Tick(boottime.Now())
			store.Wait(time.Minute) // as fast as the disk
		}
	}
	store.Flush()
	store.Wait(time.Minute)
}

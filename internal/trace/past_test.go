// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A moment is what the tree was when the history was so long.
type moment struct {
	seq  uint64
	tree []byte
}

// openStore opens a history of the test's own.
func openStore(t *testing.T) *history.Store {
	t.Helper()
	dir, err := rootfile.Own.MakeDir(filepath.Join(t.TempDir(), "history"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	store, err := history.Open(dir, history.Options{Machine: "machine", Boot: "boot", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return store
}

// TestThePastIsThePresent compares the tree at many moments of real work, some of which leaks,
// with what the history makes of those moments: to the last byte the same. It needs root,
// which CI must have.
func TestThePastIsThePresent(t *testing.T) {
	proctest.Need(t, probe.Check())
	p, err := probe.Open(probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	store := openStore(t)
	tracer := New(p, Options{Log: slog.New(slog.DiscardHandler), Recorder: past.NewRecorder(store)})
	told := tracer.Subscribe(wire.TypeOrphan, wire.TypeVerdict, wire.TypeLeak, wire.TypeResync)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx) }()
	<-tracer.Ready()

	var moments []moment
	look := func() {
		t.Helper()
		var b []byte
		var seq uint64
		var failed error
		if err := tracer.DoDrained(t.Context(), func(tree *tracker.Tree) {
			b, failed = tree.Checkpoint(nil)
			seq = store.Seq()
		}); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		moments = append(moments, moment{seq, b})
	}
	for i := range 40 {
		err := exec.Command("sh", "-c", fmt.Sprintf(`for i in 1 2 3; do (true; true); done
			sh -c 'sleep 3 & sleep 3 & exit %d'; kill -9 $$`, i%2)).Run() // its streams are /dev/null: nobody waits for the sleepers
		if err == nil {
			t.Fatal("the shell ended in order")
		}
		look()
		if i == 20 {
			// A new segment begins, and nothing changes.
			if err := tracer.Do(t.Context(), func(*tracker.Tree) { tracer.recording.Checkpoint() }); err != nil {
				t.Fatal(err)
			}
			look()
		}
	}
	orphans := 0
	for deadline := time.After(patience); orphans < 40; {
		select {
		case e := <-told.Events():
			if e.NotableSeq == 0 {
				t.Errorf("%s without a number", e.Type)
			}
			if e.Type == wire.TypeOrphan {
				orphans++
			}
		case <-deadline:
			t.Fatalf("%d orphans were told", orphans)
		}
	}
	look()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if st := store.Stats(); st.Dropped != 0 || st.Error != "" {
		t.Errorf("%d entries dropped, %q", st.Dropped, st.Error)
	}
	compareMoments(t, store, moments)
}

func compareMoments(t *testing.T, store *history.Store, moments []moment) {
	t.Helper()
	for i, m := range moments {
		player := &past.Player{}
		v := store.View(history.Stream)
		if err := v.Play(history.Range{FromSeq: m.seq - 1, ToSeq: m.seq}, player); err != nil {
			t.Fatal(err)
		}
		if player.Tree == nil {
			t.Fatalf("moment %d, at %d: nothing is kept", i, m.seq)
		}
		again, err := player.Tree.Checkpoint(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, m.tree) || v.Missed != 0 || player.Skipped != 0 {
			at := 0
			for at < min(len(again), len(m.tree)) && again[at] == m.tree[at] {
				at++
			}
			t.Errorf("moment %d, at %d: another tree (%d and %d bytes, %q and %q), %d missed, %d skipped", i, m.seq, len(m.tree), len(again),
				m.tree[max(0, at-80):min(at+20, len(m.tree))], again[max(0, at-80):min(at+20, len(again))], v.Missed, player.Skipped)
		}
	}
}

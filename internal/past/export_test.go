// SPDX-License-Identifier: Apache-2.0

package past

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestExport cuts out a range, and wants of it what the whole says.
func TestExport(t *testing.T) {
	w := newWorld(t)
	steps := func(n int) {
		for range n {
			w.step()
		}
	}
	steps(200)
	w.sample()
	steps(50)
	from := w.instant()
	steps(100)
	w.checkpoint()
	steps(100)
	at := w.instant()
	steps(30)
	to := w.instant()
	steps(100)
	w.settle()

	var b bytes.Buffer
	if missed, err := Export(t.Context(), w.store, from, to, &b); err != nil || missed != 0 {
		t.Fatal(err, missed)
	}
	file := filepath.Join(t.TempDir(), "export.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	archive, err := history.OpenArchive(file)
	if err != nil || len(archive.Skipped) != 0 {
		t.Fatal(err, archive.Skipped)
	}
	defer archive.Close()
	list := func(src Source, q Query) (list []*wire.Event) {
		missed, err := Events(t.Context(), src, q, func(e *wire.Event) error { list = append(list, e); return nil })
		if err != nil || missed != 0 {
			t.Fatal(err, missed)
		}
		return list
	}
	want, got := list(w.store, Query{From: from, To: to, Samples: true}), list(archive, Query{Samples: true})
	if diff := cmp.Diff(want, got, sameTimes); diff != "" || len(want) < 200 {
		t.Errorf("%d events, %d: %s", len(want), len(got), diff)
	}
	for _, at := range []time.Time{at, to} {
		var docs [2]*wire.Tree
		for i, src := range []Source{w.store, archive} {
			m, err := At(src, at)
			if err != nil {
				t.Fatal(err)
			}
			if docs[i], err = m.Tree(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(docs[0], docs[1], sameTimes); diff != "" {
			t.Errorf("at %v: %s", at, diff)
		}
	}
	if _, err := At(archive, from.Add(-time.Second)); !errors.Is(err, history.ErrNoCheckpoint) {
		t.Errorf("before it: %v", err)
	}
	if _, err := Export(t.Context(), w.store, time.Time{}, from.Add(-time.Hour), &b); !errors.Is(err, ErrNothing) {
		t.Errorf("of nothing: %v", err)
	}
}

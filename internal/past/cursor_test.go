// SPDX-License-Identifier: Apache-2.0

package past

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/wire"
)

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
	t.Cleanup(func() {
		if err := errors.Join(store.Close(), dir.Close()); err != nil {
			t.Error(err)
		}
	})
	return store
}

// tell appends notable events of two types.
func tell(store *history.Store, n int) {
	r := NewRecorder(store)
	for i := range n {
		e := &wire.Event{Schema: wire.Schema, ID: fmt.Sprint(store.NotableSeq()), TimeNS: 1, Type: []string{wire.TypeOrphan, wire.TypeAlert}[i%2]}
		if e.Type == wire.TypeAlert {
			e.Alert = &wire.Alert{Name: `,"type":"orphan"`}
		}
		r.Told(e)
	}
	store.Flush()
}

var errLeft = errors.New("the reader left")

// TestReaderComesBack has a reader leave at random moments of a stream that goes on, with the
// cursor of what it has kept: it gets each event, in order, and none twice but those that it
// had not kept.
func TestReaderComesBack(t *testing.T) {
	store := openStore(t)
	const events = 20000
	var writer sync.WaitGroup
	writer.Go(func() {
		for range events / 100 {
			tell(store, 100)
			store.Wait(time.Minute)
		}
	})
	cursor, next, left := FromOldest, uint64(1), 0
	for next <= events {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		stay := rand.IntN(2000)
		err := Follow(ctx, store, cursor, nil, true, func(lines []byte) error {
			for line := range bytes.Lines(lines) {
				var e struct {
					wire.Event
					Cursor string `json:"cursor"`
				}
				if err := json.Unmarshal(line, &e); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				if e.NotableSeq != next {
					t.Fatalf("event %d came, want %d", e.NotableSeq, next)
				}
				if e.Cursor == "" || e.Cursor != CursorOf(line) {
					t.Fatalf("cursor %q, %q", e.Cursor, CursorOf(line))
				}
				cursor, next = e.Cursor, next+1
				if stay--; stay <= 0 || next > events {
					return errLeft
				}
			}
			return nil
		})
		cancel()
		if !errors.Is(err, errLeft) {
			t.Fatalf("%v, at %d", err, next)
		}
		left++
	}
	writer.Wait()
	t.Logf("left %d times", left)
}

func TestFollowTypes(t *testing.T) {
	store := openStore(t)
	tell(store, 10)
	store.Wait(time.Minute)
	n := 0
	err := Follow(t.Context(), store, FromOldest, []string{wire.TypeOrphan}, false, func(lines []byte) error {
		n += bytes.Count(lines, []byte("\n"))
		if bytes.Contains(lines, []byte(`,"alert":`)) {
			t.Errorf("%s", lines)
		}
		return nil
	})
	if err != nil || n != 5 {
		t.Errorf("%v: %d lines", err, n)
	}
}

func TestForeignCursors(t *testing.T) {
	store := openStore(t)
	for cursor, want := range map[string]error{
		"":         ErrCursor,
		"nonsense": ErrCursor,
		history.Cursor{Epoch: store.Epoch(), Class: history.Stream, Seq: 1}.String():   ErrCursor,
		history.Cursor{Epoch: "000000000000", Class: history.Notable, Seq: 1}.String(): ErrPurged,
	} {
		if err := Follow(t.Context(), store, cursor, nil, false, nil); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", cursor, err, want)
		}
	}
}

func TestCursorOf(t *testing.T) {
	for lines, want := range map[string]string{
		"":                                "",
		"{\"schema\":1}\n":                "",
		"{\"cursor\":\"n1.2\",\"a\":1}\n": "n1.2",
		"{\"cursor\":\"n1.2\",\"a\":1}\n{\"cursor\":\"n1.3\",\"a\":1}\n{\"schema\":1}\n": "n1.3",
	} {
		if got := CursorOf([]byte(lines)); got != want {
			t.Errorf("%q: %q, want %q", lines, got, want)
		}
	}
}

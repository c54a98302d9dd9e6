// SPDX-License-Identifier: Apache-2.0

package past

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestAllReaderComesBack has a reader of all events leave after any of them, and come back with
// the cursor of the last that it has had, while more happens: it has each in its order, and
// again at most those of one record.
func TestAllReaderComesBack(t *testing.T) {
	w := newWorld(t)
	cursor, left := FromOldest, 0
	var got []*wire.Event
	read := func(stay int) {
		err := FollowAll(t.Context(), w.store, cursor, nil, false, func(lines []byte) error {
			for line := range bytes.Lines(lines) {
				e := new(wire.Event)
				if err := json.Unmarshal(line, e); err != nil {
					t.Fatal(err)
				}
				if e.Type == wire.TypeLost {
					t.Fatalf("%s", line)
				}
				e.NotableSeq = 0
				if n := len(got); n > 0 && e.Seq <= got[n-1].Seq {
					got = got[:e.Seq-1] // again
				}
				got, cursor = append(got, e), CursorOf(line)
				if stay--; stay == 0 {
					left++
					return errLeft
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errLeft) {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		for range 40 {
			w.step()
		}
		if i%10 == 5 {
			w.checkpoint()
		}
		w.settle()
		read(1 + rand.IntN(80))
	}
	read(-1)
	for _, e := range w.told {
		e.NotableSeq = 0
	}
	if diff := cmp.Diff(w.told, got, sameTimes); diff != "" || left == 0 {
		t.Errorf("%d told, %d had, left %d times: %s", len(w.told), len(got), left, diff)
	}
}

// TestAllReaderFollows stays while more happens.
func TestAllReaderFollows(t *testing.T) {
	w := newWorld(t)
	enough := errors.New("enough")
	news := make(chan int, 1)
	done := make(chan error, 1)
	types := []string{wire.TypeFork, wire.TypeOrphan}
	wanted := func(e *wire.Event) bool { return e.Type == wire.TypeFork || e.Type == wire.TypeOrphan }
	count := func() (n int) {
		for _, e := range w.told {
			if wanted(e) {
				n++
			}
		}
		return n
	}
	go func() {
		had, total := 0, -1
		done <- FollowAll(t.Context(), w.store, FromOldest, types, true, func(lines []byte) error {
			had += bytes.Count(lines, []byte("\n"))
			for total < 0 {
				select {
				case total = <-news:
				default:
					return nil
				}
			}
			if had == total {
				return enough
			}
			return nil
		})
	}()
	for range 20 {
		for range 20 {
			w.step()
		}
		w.settle()
	}
	news <- count() + 1
	w.fork(w.living[0]) // the last
	w.settle()
	if err := <-done; !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestForeignStreamCursors(t *testing.T) {
	w := newWorld(t)
	for cursor, want := range map[string]error{
		"": ErrCursor, "nonsense": ErrCursor,
		history.Cursor{Epoch: w.store.Epoch(), Class: history.Notable, Seq: 1}.String(): ErrCursor,
		history.Cursor{Epoch: "000000000000", Class: history.Stream, Seq: 1}.String():   ErrPurged,
	} {
		if err := FollowAll(t.Context(), w.store, cursor, nil, false, nil); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", cursor, err, want)
		}
	}
}

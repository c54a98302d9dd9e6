// SPDX-License-Identifier: Apache-2.0

package past

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// FromOldest is the cursor of a reader that has had nothing: it begins with the oldest notable
// event that is kept.
const FromOldest = "oldest"

var (
	// ErrCursor is wrapped where a text is no cursor of notable events.
	ErrCursor = errors.New("no cursor of notable events")
	// ErrPurged is wrapped where a cursor is of a history that is not there any more.
	ErrPurged = errors.New("the history that it is of was purged")
)

// portion is how many bytes of lines are handed over at once, about.
const portion = 64 << 10

// Follow hands the notable events from a cursor on to write, as lines that begin with their
// cursors: whoever comes again with the last one that it has had misses none. What retention
// has taken meanwhile is told by a lost event. With types only those are handed over. Unless
// follow is true it returns when all that is on the disk was handed over, else when ctx ends.
// It waits for nobody but write, and never holds up the store.
func Follow(ctx context.Context, store *history.Store, cursor string, types []string, follow bool, write func([]byte) error) error {
	at, err := place(store, history.Notable, cursor)
	if err != nil {
		return err
	}
	r := &lineReader{store: store, at: at, types: types, write: write}
	return readOn(ctx, store, follow, r.read)
}

// readOn calls read, and with follow again whenever there is more on the disk, until ctx ends.
func readOn(ctx context.Context, store *history.Store, follow bool, read func(context.Context) error) error {
	for {
		changed := store.Changed() // before the look, which would miss what comes after it
		if err := read(ctx); err != nil || !follow {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// place is the sequence that a cursor of a class names.
func place(store *history.Store, class history.Class, text string) (uint64, error) {
	if text == FromOldest {
		first, _, _, _ := store.View(class).Span()
		return max(first, 1), nil
	}
	c, err := history.ParseCursor(text)
	switch {
	case err != nil || c.Class != class:
		return 0, fmt.Errorf("cursor %q: %w", text, ErrCursor)
	case c.Epoch != store.Epoch():
		return 0, fmt.Errorf("cursor %q: %w", text, ErrPurged)
	}
	return c.Seq, nil
}

// A lineReader reads on from a place.
type lineReader struct {
	store *history.Store
	at    uint64 // of the next line
	types []string
	write func([]byte) error
	buf   []byte
}

// read hands over what is on the disk by now.
func (r *lineReader) read(ctx context.Context) error {
	v := r.store.View(history.Notable)
	if first, _, _, _ := v.Span(); r.at < first {
		r.lose(first - r.at)
		r.at = first
	}
	var failed error
	err := v.Lines(history.Range{FromSeq: r.at}, func(_ *history.SegmentHead, l history.Line) bool {
		if l.Seq > r.at {
			r.lose(l.Seq - r.at) // a block that could not be read
		}
		r.at = l.Seq + 1
		if wants(r.types, typeOf(l.JSON)) {
			r.appendWith(history.Notable, r.at, l.JSON)
		}
		if len(r.buf) >= portion {
			failed = r.flush()
		}
		return failed == nil && ctx.Err() == nil
	})
	if failed == nil {
		failed = r.flush()
	}
	return errors.Join(failed, err)
}

// appendWith adds a line with the cursor of what follows it.
func (r *lineReader) appendWith(class history.Class, next uint64, line []byte) {
	r.buf = append(r.buf, `{"cursor":"`...)
	r.buf = append(r.buf, history.Cursor{Epoch: r.store.Epoch(), Class: class, Seq: next}.String()...)
	r.buf = append(r.buf, `",`...)
	r.buf = append(r.buf, bytes.TrimPrefix(line, []byte("{"))...)
}

// lose tells the reader, and nobody else, how many events it cannot have any more.
func (r *lineReader) lose(events uint64) {
	r.buf = wire.AppendEvent(r.buf, &wire.Event{Schema: wire.Schema, Type: wire.TypeLost, Time: time.Now(),
		Lost: &wire.Lost{Records: events, Where: wire.LostFromHistory}})
}

func (r *lineReader) flush() error {
	if len(r.buf) == 0 {
		return nil
	}
	err := r.write(r.buf)
	r.buf = r.buf[:0]
	return err
}

// CursorOf returns the cursor of the last of some lines that has one; empty where none has.
func CursorOf(lines []byte) string {
	head := []byte(`{"cursor":"`)
	i := bytes.LastIndex(lines, append([]byte("\n"), head...)) + 1
	rest, ok := bytes.CutPrefix(lines[i:], head)
	if !ok {
		return ""
	}
	cursor, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(cursor)
}

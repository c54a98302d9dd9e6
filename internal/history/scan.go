// SPDX-License-Identifier: Apache-2.0

package history

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A View is the segments as they are at one moment. Segments that retention unlinks
// later are passed over and counted. It may be used by one goroutine.
type View struct {
	segments []segment
	open     func(name string) (reader, error)
	// Missed counts entries that could not be read, whatever the reason.
	Missed uint64
}

type reader interface {
	io.ReaderAt
	io.Closer
}

// View returns what is kept of a class.
func (s *Store) View(class Class) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &View{open: func(name string) (reader, error) { return s.dir.Open(name) }}
	for _, seg := range s.segments[class] {
		v.segments = append(v.segments, *seg)
		last := &v.segments[len(v.segments)-1]
		last.refs = slices.Clone(seg.refs)
	}
	return v
}

// A Range says what of a history is asked for. Zero values are no bounds.
type Range struct {
	FromSeq, ToSeq uint64    // ToSeq is the first that is not asked for
	From, To       time.Time // wall clock
	// PID, where it is not 0, asks for entries about that pid alone.
	PID int32
}

// covers reports whether the block may hold something of the range.
func (r *Range) covers(h *SegmentHead, ref *blockRef) bool {
	switch {
	case ref.seq+uint64(ref.count) <= r.FromSeq, r.ToSeq != 0 && ref.seq >= r.ToSeq:
		return false
	case !r.From.IsZero() && h.Wall(ref.to).Before(r.From), !r.To.IsZero() && h.Wall(ref.from).After(r.To):
		return false
	}
	return r.PID == 0 || ref.pids == nil || ref.pids.has(r.PID)
}

func (r *Range) has(h *SegmentHead, seq, ns uint64) bool {
	if seq < r.FromSeq || r.ToSeq != 0 && seq >= r.ToSeq {
		return false
	}
	if r.From.IsZero() && r.To.IsZero() {
		return true
	}
	t := h.Wall(ns)
	return !t.Before(r.From) && (r.To.IsZero() || !t.After(r.To))
}

// Entries hands the entries of the range to fn, in order, until it returns false. An
// entry belongs to fn only until it returns.
func (v *View) Entries(r Range, fn func(*SegmentHead, Entry) bool) error {
	return v.blocks(&r, blockRows, func(seg *segment, ref *blockRef, body []byte) (bool, error) {
		plans := plan(seg.head.Columns)
		more := true
		err := decodeRows(body, ref.seq, seg.head.Columns, &plans, func(e Entry) bool {
			if r.has(seg.head, e.Seq, e.Time()) && (r.PID == 0 || e.about(r.PID)) {
				more = fn(seg.head, e)
			}
			return more
		})
		return more, err
	})
}

// about reports whether an entry concerns a pid.
func (e *Entry) about(pid int32) bool {
	if e.Note != nil {
		return e.Note.ID.PID == pid
	}
	return slices.Contains(pidsOf(e.Event), pid)
}

// pidsOf lists the pids that a record is found by.
func pidsOf(e *event.Event) []int32 {
	pids := []int32{e.Subject.PID}
	switch e.Kind {
	case event.KindFork:
		pids = append(pids, e.Fork.Spawner.PID)
	case event.KindSignal, event.KindCaught:
		pids = append(pids, e.Signal.Sender.PID)
	}
	return pids
}

// A Line is a notable event as it was told.
type Line struct {
	Seq  uint64
	Time uint64 // CLOCK_BOOTTIME ns
	JSON []byte
}

// Lines hands the notable events of the range to fn, in order, until it returns false.
func (v *View) Lines(r Range, fn func(*SegmentHead, Line) bool) error {
	return v.blocks(&r, blockLines, func(seg *segment, ref *blockRef, body []byte) (bool, error) {
		in := cutter{b: body}
		times := make([]uint64, 0, min(int(ref.count), len(body)))
		last := uint64(0)
		for range ref.count {
			last += uint64(in.varint())
			if in.bad {
				return true, errBody
			}
			times = append(times, last)
		}
		for i, ns := range times {
			line := Line{Seq: ref.seq + uint64(i), Time: ns, JSON: in.part()}
			if in.bad {
				return true, errBody
			}
			if r.has(seg.head, line.Seq, ns) && !fn(seg.head, line) {
				return false, nil
			}
		}
		return true, nil
	})
}

// Checkpoint returns the body of the latest checkpoint at or before t, with the head of
// its segment and the sequence of the first entry behind it; false where there is none.
func (v *View) Checkpoint(t time.Time) (*SegmentHead, []byte, uint64, bool) {
	for i := len(v.segments) - 1; i >= 0; i-- {
		seg := &v.segments[i]
		if seg.head.Opened.After(t) || len(seg.refs) == 0 || seg.refs[0].kind != blockCheckpoint {
			continue
		}
		f, err := v.open(seg.name)
		if err != nil {
			continue
		}
		body, err := readBody(f, seg.refs[0].offset, &seg.refs[0].blockHead)
		_ = f.Close()
		if err == nil {
			return seg.head, body, seg.refs[0].seq, true
		}
	}
	return nil, nil, 0, false
}

// Span is the sequences and the times that a view holds.
func (v *View) Span() (first, end uint64, from, to time.Time) {
	for i := range v.segments {
		seg := &v.segments[i]
		for j := range seg.refs {
			ref := &seg.refs[j]
			if ref.count == 0 {
				continue
			}
			if first == 0 || ref.seq < first {
				first, from = ref.seq, seg.head.Wall(ref.from)
			}
			end, to = max(end, ref.seq+uint64(ref.count)), seg.head.Wall(ref.to)
		}
	}
	return first, end, from, to
}

// blocks reads the blocks of a kind that cover the range.
func (v *View) blocks(r *Range, kind blockKind, fn func(*segment, *blockRef, []byte) (bool, error)) error {
	for i := range v.segments {
		more, err := v.segmentBlocks(&v.segments[i], r, kind, fn)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (v *View) segmentBlocks(seg *segment, r *Range, kind blockKind, fn func(*segment, *blockRef, []byte) (bool, error)) (bool, error) {
	var f reader
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	for j := range seg.refs {
		ref := &seg.refs[j]
		if ref.kind != kind || !r.covers(seg.head, ref) {
			continue
		}
		if f == nil {
			var err error
			if f, err = v.reopen(seg); err != nil {
				if !errors.Is(err, os.ErrNotExist) {
					return false, fmt.Errorf("%s: %w", seg.name, err)
				}
				v.Missed += uint64(ref.count)
				continue
			}
			if j >= len(seg.refs) {
				return true, nil
			}
			ref = &seg.refs[j]
		}
		body, err := readBody(f, ref.offset, &ref.blockHead)
		if err != nil {
			v.Missed += uint64(ref.count)
			continue
		}
		more, err := fn(seg, ref, body)
		if err != nil {
			v.Missed += uint64(ref.count)
		} else if !more {
			return false, nil
		}
	}
	return true, nil
}

// reopen opens the file of a segment. It may have been sealed since the view was made:
// its blocks stand elsewhere then.
func (v *View) reopen(seg *segment) (reader, error) {
	f, err := v.open(seg.name)
	if err != nil || seg.sealed {
		return f, err
	}
	if sized, ok := f.(interface{ Stat() (fs.FileInfo, error) }); ok {
		info, err := sized.Stat()
		if err != nil {
			return f, nil
		}
		if refs, sealed := readIndex(f, info.Size()); sealed {
			seg.refs, seg.sealed = refs, true
		}
	}
	return f, nil
}

// A Cursor names a place in a history: the first entry that its reader has not had.
type Cursor struct {
	Epoch string
	Class Class
	Seq   uint64
}

// String is the form that ParseCursor takes.
func (c Cursor) String() string {
	return fmt.Sprintf("%c%s.%d", c.Class[0], c.Epoch, c.Seq)
}

// ParseCursor reads what String made.
func ParseCursor(s string) (c Cursor, err error) {
	bad := fmt.Errorf("cursor %q: not one that this program gave", s)
	if len(s) < 2 {
		return c, bad
	}
	switch s[0] {
	case Stream[0]:
		c.Class = Stream
	case Notable[0]:
		c.Class = Notable
	default:
		return c, bad
	}
	i := slices.Index([]byte(s), '.')
	if i < 2 || i > 33 {
		return c, bad
	}
	c.Epoch = s[1:i]
	var rest string
	if n, _ := fmt.Sscanf(s[i+1:], "%d%s", &c.Seq, &rest); n != 1 || c.String() != s {
		return Cursor{}, bad
	}
	return c, nil
}

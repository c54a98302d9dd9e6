// SPDX-License-Identifier: Apache-2.0

package history

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// A Player is told of a segment from its checkpoint on.
type Player interface {
	// Start begins a segment with the state of the tree before its first entry. It may keep
	// checkpoint. An error passes over the segment.
	Start(head *SegmentHead, checkpoint []byte) error
	// Play takes one entry, which belongs to it only until it returns: every one of the segment
	// up to the end of the range. asked says whether the range asks for it. It returns false to
	// end.
	Play(e *Entry, asked bool) bool
}

// ErrNoCheckpoint is returned where nothing is kept of the time that is asked for.
var ErrNoCheckpoint = errors.New("the history does not reach back so far")

// Begin is the first time that PlayAt can be asked about; zero where there is none.
func (v *View) Begin() time.Time {
	for i := range v.segments {
		if seg := &v.segments[i]; len(seg.refs) > 0 && seg.refs[0].kind == blockCheckpoint {
			return seg.head.Opened
		}
	}
	return time.Time{}
}

// PlayAt plays the segment of the latest checkpoint at or before t, up to t.
func (v *View) PlayAt(t time.Time, p Player) error {
	for i := len(v.segments) - 1; i >= 0; i-- {
		seg := &v.segments[i]
		if seg.head.Opened.After(t) {
			continue
		}
		began, err := v.playSegment(seg, &Range{To: t}, p)
		if began || err != nil {
			return err
		}
	}
	return ErrNoCheckpoint
}

// Play plays the segments that hold something of the range, the oldest first: with a PID only
// those that may have something about it, but these with all that is in them.
func (v *View) Play(r Range, p Player) error {
	whole := r
	whole.PID = 0
	for i := range v.segments {
		seg := &v.segments[i]
		if !v.knows(seg, &r) {
			continue
		}
		ended := &ending{Player: p}
		if _, err := v.playSegment(seg, &whole, ended); err != nil || ended.ended {
			return err
		}
	}
	return nil
}

// ending remembers that its player wants no more.
type ending struct {
	Player
	ended bool
}

func (e *ending) Play(entry *Entry, asked bool) bool {
	e.ended = !e.Player.Play(entry, asked)
	return !e.ended
}

// playSegment plays one segment up to the end of the range, and reports whether that began.
func (v *View) playSegment(seg *segment, r *Range, p Player) (began bool, err error) {
	f, err := v.reopen(seg)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // retention was quicker
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", seg.name, err)
	}
	defer f.Close()
	if !v.start(f, seg, p) {
		return false, nil
	}
	v.playBlocks(f, seg, r, p)
	return true, nil
}

// start hands over the checkpoint of a segment, and reports whether that is of use.
func (v *View) start(f reader, seg *segment, p Player) bool {
	if len(seg.refs) == 0 || seg.refs[0].kind != blockCheckpoint {
		v.Missed++
		return false
	}
	checkpoint, err := readBody(f, seg.refs[0].offset, &seg.refs[0].blockHead)
	if err == nil {
		err = p.Start(seg.head, checkpoint)
	}
	if err != nil {
		for i := range seg.refs {
			v.Missed += uint64(seg.refs[i].count)
		}
	}
	return err == nil
}

// playBlocks plays the entries of a segment up to the end of the range.
func (v *View) playBlocks(f reader, seg *segment, r *Range, p Player) {
	plans := plan(seg.head.Columns)
	more := true
	for i := 1; i < len(seg.refs) && more; i++ {
		ref := &seg.refs[i]
		if ref.kind != blockRows {
			continue
		}
		if r.ToSeq != 0 && ref.seq >= r.ToSeq || !r.To.IsZero() && seg.head.Wall(ref.from).After(r.To) {
			break
		}
		body, err := readBody(f, ref.offset, &ref.blockHead)
		if err == nil {
			err = decodeRows(body, ref.seq, seg.head.Columns, &plans, func(e Entry) bool {
				more = v.playEntry(seg.head, &e, r, p)
				return more
			})
		}
		if err != nil {
			v.Missed += uint64(ref.count)
		}
	}
}

// playEntry hands over one entry. What lies behind the range's end is passed over: entries
// are nearly, not wholly, in the order of their times.
func (v *View) playEntry(head *SegmentHead, e *Entry, r *Range, p Player) bool {
	if r.ToSeq != 0 && e.Seq >= r.ToSeq {
		return false
	}
	if !r.To.IsZero() && head.Wall(e.Time()).After(r.To) {
		return true
	}
	return p.Play(e, r.has(head, e.Seq, e.Time()))
}

// Time is when it happened, CLOCK_BOOTTIME ns.
func (e *Entry) Time() uint64 {
	if e.Event != nil {
		return e.Event.Time
	}
	return e.Note.Time
}

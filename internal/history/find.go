// SPDX-License-Identifier: Apache-2.0

package history

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// LastAbout returns the time of the last record of a process with that pid at or before t;
// false where there is none. It reads only blocks whose filters know the pid, the latest
// first.
func (v *View) LastAbout(pid int32, t time.Time) (time.Time, bool, error) {
	r := Range{To: t, PID: pid}
	for i := len(v.segments) - 1; i >= 0; i-- {
		seg := &v.segments[i]
		f, err := v.reopen(seg)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return time.Time{}, false, fmt.Errorf("%s: %w", seg.name, err)
		}
		at, found := v.lastInSegment(seg, f, &r)
		if err := f.Close(); err != nil {
			return time.Time{}, false, err
		}
		if found {
			return at, true, nil
		}
	}
	return time.Time{}, false, nil
}

func (v *View) lastInSegment(seg *segment, f reader, r *Range) (at time.Time, found bool) {
	plans := plan(seg.head.Columns)
	for _, ref := range slices.Backward(seg.refs) {
		if ref.kind != blockRows || !r.covers(seg.head, &ref) {
			continue
		}
		body, err := readBody(f, ref.offset, &ref.blockHead)
		if err == nil {
			err = decodeRows(body, ref.seq, seg.head.Columns, &plans, func(e Entry) bool {
				if e.Event != nil && e.Event.Subject.PID == r.PID && r.has(seg.head, e.Seq, e.Event.Time) {
					at, found = seg.head.Wall(e.Event.Time), true
				}
				return true
			})
		}
		if err != nil {
			v.Missed += uint64(ref.count)
		}
		if found {
			break
		}
	}
	return at, found
}

// knows reports whether a segment may have something of the range.
func (*View) knows(seg *segment, r *Range) bool {
	return slices.ContainsFunc(seg.refs, func(ref blockRef) bool { return ref.kind == blockRows && r.covers(seg.head, &ref) })
}

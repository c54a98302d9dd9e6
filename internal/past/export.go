// SPDX-License-Identifier: Apache-2.0

package past

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// ErrNothing is returned where nothing is kept of a range.
var ErrNothing = errors.New("nothing is kept of that time")

// Export cuts out what is kept of a range (zero is no bound), and writes it to w as a tar
// archive of segments, which [history.OpenArchive] reads. It returns how many entries could
// not be read.
func Export(ctx context.Context, src Source, from, to time.Time, w io.Writer) (missed uint64, err error) {
	x := &exporter{ctx: ctx, out: tar.NewWriter(w)}
	r := history.Range{From: from, To: to}
	v := src.View(history.Stream)
	x.OnChange = x.change
	if err = v.Play(r, x); err == nil {
		x.finish()
		err = x.err
	}
	if err != nil {
		return v.Missed, err
	}
	notable := src.View(history.Notable)
	if err = notable.Lines(r, x.line); err == nil {
		x.finish()
		err = x.err
	}
	if err == nil && x.parts == 0 {
		err = ErrNothing
	}
	if err == nil {
		err = x.out.Close()
	}
	return v.Missed + notable.Missed, err
}

// An exporter is a Player that writes down anew what is asked for.
type exporter struct {
	Player
	ctx   context.Context
	out   *tar.Writer
	part  *history.Part // that is being made, nil before there is one
	of    *history.SegmentHead
	parts int
	err   error
}

// Start implements history.Player.
func (x *exporter) Start(head *history.SegmentHead, checkpoint []byte) error {
	x.finish()
	if x.err != nil {
		return nil // Play says so
	}
	return x.Player.Start(head, checkpoint)
}

// Play implements history.Player.
func (x *exporter) Play(e *history.Entry, asked bool) bool {
	if x.err == nil {
		x.err = x.ctx.Err()
	}
	if asked && x.err == nil {
		if x.part == nil && x.repeats == 0 {
			x.begin(e)
		}
		if x.part != nil {
			x.part.Entry(e)
		}
	}
	return x.err == nil && x.Player.Play(e, asked)
}

// begin begins a segment before an entry, with the tree as it is there. In the middle of a
// snapshot there is no tree: the next entry is tried then.
func (x *exporter) begin(e *history.Entry) {
	start := Start{EventIDs: x.Begun.EventIDs, EventSeq: x.seq, Names: x.Names.Known()}
	if x.Sample.Time != 0 {
		if start.Sample, x.err = x.Sample.encode(nil, nil); x.err != nil {
			return
		}
	}
	head, err := json.Marshal(start)
	if err != nil {
		x.err = err
		return
	}
	checkpoint, err := x.Tree.Checkpoint(append(binary.AppendUvarint(nil, uint64(len(head))), head...))
	if errors.Is(err, tracker.ErrMerging) {
		return
	}
	if err == nil {
		x.part, err = history.NewPart(headAt(x.Head, e.Seq, e.Time()), checkpoint)
	}
	x.err = err
}

// headAt is the head of a segment that begins there.
func headAt(head *history.SegmentHead, seq, ns uint64) *history.SegmentHead {
	h := *head
	h.FirstSeq, h.Opened, h.OpenedNS = seq, head.Wall(ns), ns
	return &h
}

// change counts the events.
func (x *exporter) change(changes []tracker.Change, _ uint64, _ bool) bool {
	return x.lifecycle(changes, func(*tracker.Change, string) bool { return true })
}

// line writes down a notable event.
func (x *exporter) line(head *history.SegmentHead, l history.Line) bool {
	if x.part != nil && x.of != head {
		x.finish()
	}
	if x.err == nil {
		x.err = x.ctx.Err()
	}
	if x.part == nil && x.err == nil {
		x.of = head
		x.part, x.err = history.NewPart(headAt(head, l.Seq, l.Time), nil)
	}
	if x.err != nil {
		return false
	}
	x.part.Line(&l)
	return true
}

// finish writes the segment that is being made.
func (x *exporter) finish() {
	if x.part == nil || x.err != nil {
		return
	}
	name, segment := x.part.Finish()
	x.part = nil
	x.parts++
	x.err = x.out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(segment)), ModTime: x.modified()})
	if x.err == nil {
		_, x.err = x.out.Write(segment)
	}
	if x.err != nil {
		x.err = fmt.Errorf("export: %w", x.err)
	}
}

// modified is when the segment that was begun last was.
func (x *exporter) modified() time.Time {
	if x.of != nil {
		return x.of.Opened
	}
	return x.Head.Opened
}

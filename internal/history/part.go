// SPDX-License-Identifier: Apache-2.0

package history

import (
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A Part is a segment that is made anew of entries, or of lines, of others: for an export. It
// belongs to one goroutine.
type Part struct {
	head  SegmentHead
	b     []byte
	refs  []blockRef
	enc   *zstd.Encoder
	rows  *rows
	lines lineBlock
	next  uint64 // sequence behind the last entry or line
}

// NewPart begins a segment with the head of another one, of which the caller has said with
// which sequence and when it begins; a checkpoint, which lines have none of, is of the state
// there.
func NewPart(head *SegmentHead, checkpoint []byte) (*Part, error) {
	p := &Part{head: *head, rows: newRows(), next: head.FirstSeq}
	p.head.Format = formatVersion
	if p.head.Class == Stream {
		p.head.Columns = columns
	}
	var err error
	if p.enc, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20)); err != nil {
		return nil, err
	}
	if p.b, err = p.head.encode(); err != nil {
		return nil, err
	}
	if checkpoint != nil {
		p.block(&blockHead{kind: blockCheckpoint, seq: p.head.FirstSeq}, checkpoint, nil)
	}
	return p, nil
}

func (p *Part) block(h *blockHead, body []byte, pids filter) {
	h.codec = codecZstd
	at := int64(len(p.b))
	p.b = appendBlock(p.b, h, body, p.enc)
	p.refs = append(p.refs, blockRef{blockHead: *h, offset: at, pids: pids})
}

// Entry adds an entry. It keeps nothing of e.
func (p *Part) Entry(e *Entry) {
	if e.Seq != p.next {
		p.flush() // those of a block are without a gap
	}
	if e.Event != nil {
		p.rows.appendEvent(e.Event)
	} else {
		p.rows.appendNote(e.Note)
	}
	if p.next = e.Seq + 1; p.rows.bytes >= blockBytes {
		p.flush()
	}
}

// Line adds a line. It keeps nothing of it.
func (p *Part) Line(l *Line) {
	if l.Seq != p.next {
		p.flush()
	}
	p.lines.append(l.Time, l.JSON)
	if p.next = l.Seq + 1; len(p.lines.body) >= blockBytes {
		p.flush()
	}
}

func (p *Part) flush() {
	if n := p.rows.len(); n > 0 {
		p.block(&blockHead{kind: blockRows, count: uint32(n), seq: p.next - uint64(n), from: p.rows.from, to: p.rows.to},
			p.rows.encode(nil), newFilter(p.rows.pids))
		p.rows.reset()
	}
	if n := len(p.lines.times); n > 0 {
		p.block(&blockHead{kind: blockLines, count: uint32(n), seq: p.next - uint64(n),
			from: slices.Min(p.lines.times), to: slices.Max(p.lines.times)}, p.lines.encode(), nil)
		p.lines = lineBlock{}
	}
}

// Finish ends the segment, and returns it with the name of its file.
func (p *Part) Finish() (name string, segment []byte) {
	p.flush()
	defer p.enc.Close()
	return segmentName(p.head.Class, p.head.FirstSeq), appendIndex(p.b, p.refs, int64(len(p.b)))
}

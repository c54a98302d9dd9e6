// SPDX-License-Identifier: Apache-2.0

package history

import (
	"io"

	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// A segment is a file of the history.
type segment struct {
	name   string
	head   *SegmentHead
	refs   []blockRef
	size   int64
	sealed bool
	active bool
}

// last is the latest time in it, CLOCK_BOOTTIME ns of its boot.
func (s *segment) last() uint64 {
	last := s.head.OpenedNS
	for i := range s.refs {
		last = max(last, s.refs[i].to)
	}
	return last
}

// end is the sequence behind its last entry.
func (s *segment) end() uint64 {
	end := s.head.FirstSeq
	for i := range s.refs {
		if r := &s.refs[i]; r.kind == blockRows || r.kind == blockLines {
			end = max(end, r.seq+uint64(r.count))
		}
	}
	return end
}

// openSegment reads what a file says of itself.
func openSegment(dir *rootfile.Dir, name string) (*segment, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readSegment(name, f, info.Size())
}

func readSegment(name string, r io.ReaderAt, size int64) (*segment, error) {
	head, at, err := readSegmentHead(r)
	if err != nil {
		return nil, err
	}
	seg := &segment{name: name, head: head, size: size}
	if seg.refs, seg.sealed = readIndex(r, size); !seg.sealed {
		seg.refs, _, _ = scanBlocks(r, at, size)
	}
	return seg, nil
}

// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
)

// A segment is a file: a head, a checkpoint in segments of the stream, blocks, and, once
// it is sealed, an index. Names sort by class and first sequence.
const (
	segmentMagic = "abot-trace history\n"
	suffix       = ".segment"
	sealingMark  = ".sealing"
	asideMark    = ".damaged"

	// formatVersion is raised when a reader of today could not make sense of what is
	// written. Fields of the head and columns may come without that.
	formatVersion = 1
	maxHead       = 1 << 20
)

// Class says what a segment holds.
type Class string

// The classes.
const (
	Stream  Class = "stream"  // all that changes the tree
	Notable Class = "notable" // what people are told, as JSON
)

// SegmentHead is the head of a segment. It is JSON between a magic with its length and a
// checksum.
type SegmentHead struct {
	Format  int    `json:"format"`
	Class   Class  `json:"class"`
	Machine string `json:"machine"`
	Boot    string `json:"boot"`
	// Epoch tells this history from another of the same machine, which was purged.
	Epoch string `json:"epoch"`
	// Host is the name of the machine then.
	Host string `json:"host,omitempty"`
	// FirstSeq is the sequence of the first entry.
	FirstSeq uint64 `json:"first_seq"`
	// Opened is the wall clock then, OpenedNS CLOCK_BOOTTIME at the same moment.
	Opened   time.Time `json:"opened"`
	OpenedNS uint64    `json:"opened_ns"`
	Columns  []column  `json:"columns,omitempty"`
}

// Wall returns the wall clock time of a CLOCK_BOOTTIME time, by the clocks as they stood
// when the segment was opened.
func (h *SegmentHead) Wall(ns uint64) time.Time {
	return h.Opened.Add(time.Duration(int64(ns - h.OpenedNS)))
}

// segmentName is the name of the file.
func segmentName(class Class, first uint64) string {
	return fmt.Sprintf("%s-%016x%s", class, first, suffix)
}

func parseSegmentName(name string) (class Class, first uint64, ok bool) {
	stem, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return "", 0, false
	}
	kind, digits, ok := strings.Cut(stem, "-")
	if !ok || len(digits) != 16 || kind != string(Stream) && kind != string(Notable) {
		return "", 0, false
	}
	first, err := strconv.ParseUint(digits, 16, 64)
	return Class(kind), first, err == nil
}

func (h *SegmentHead) encode() ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32([]byte(segmentMagic), uint32(len(body)))
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// ErrVersion is wrapped where a later version has written a segment.
var ErrVersion = errors.New("written by a later version")

// readSegmentHead reads the head, and returns where the first block begins.
func readSegmentHead(r io.ReaderAt) (*SegmentHead, int64, error) {
	lead := make([]byte, len(segmentMagic)+4)
	if _, err := r.ReadAt(lead, 0); err != nil || !bytes.HasPrefix(lead, []byte(segmentMagic)) {
		return nil, 0, fmt.Errorf("not a segment of a history: %w", errDamaged)
	}
	n := binary.LittleEndian.Uint32(lead[len(segmentMagic):])
	if n > maxHead {
		return nil, 0, fmt.Errorf("segment head of %d bytes: %w", n, errDamaged)
	}
	rest := make([]byte, n+4)
	if _, err := r.ReadAt(rest, int64(len(lead))); err != nil {
		return nil, 0, fmt.Errorf("segment head is cut: %w", errDamaged)
	}
	sum := crc32.Update(crc32.Checksum(lead, castagnoli), castagnoli, rest[:n])
	if binary.LittleEndian.Uint32(rest[n:]) != sum {
		return nil, 0, fmt.Errorf("segment head: checksum: %w", errDamaged)
	}
	h := new(SegmentHead)
	if err := json.Unmarshal(rest[:n], h); err != nil {
		return nil, 0, fmt.Errorf("segment head: %w", errors.Join(err, errDamaged))
	}
	if h.Format > formatVersion {
		return nil, 0, fmt.Errorf("format %d: %w", h.Format, ErrVersion)
	}
	h.Columns = adopt(h.Columns)
	return h, int64(len(lead)) + int64(n) + 4, nil
}

// A blockRef is a block of a segment, with what is known of it without reading it.
type blockRef struct {
	blockHead
	offset int64
	pids   filter // nil where it is not known
}

// A damage is bytes of a segment that could not be read.
type damage struct {
	offset, bytes int64
	err           error
}

// scanBlocks lists the blocks from offset on by their heads, up to size. Where a head is
// damaged it looks for the next one. A tail that was being written when the writer died
// is no damage: it comes back as torn, in bytes.
func scanBlocks(r io.ReaderAt, offset, size int64) (refs []blockRef, lost []damage, torn int64) {
	head := make([]byte, headSize)
	for offset < size {
		if size-offset < headSize {
			return refs, lost, size - offset
		}
		_, err := r.ReadAt(head, offset)
		h, headErr := parseBlockHead(head)
		if err = errors.Join(err, headErr); err == nil {
			if offset+headSize+int64(h.stored) > size {
				return refs, lost, size - offset
			}
			refs = append(refs, blockRef{blockHead: h, offset: offset})
			offset += headSize + int64(h.stored)
			continue
		}
		next := nextBlock(r, offset+1, size)
		if next < 0 {
			return refs, lost, size - offset
		}
		lost = append(lost, damage{offset, next - offset, err})
		offset = next
	}
	return refs, lost, 0
}

// nextBlock is where the next head with a right checksum stands; -1 where there is none.
func nextBlock(r io.ReaderAt, offset, size int64) int64 {
	magic := binary.LittleEndian.AppendUint32(nil, blockMagic)
	const window = 1 << 16
	buf := make([]byte, window+headSize)
	for ; offset < size; offset += window {
		n, _ := r.ReadAt(buf[:min(int64(len(buf)), size-offset)], offset)
		for at := 0; at < min(n, window); at++ {
			i := bytes.Index(buf[at:n], magic)
			if i < 0 {
				break
			}
			if at += i; at < window && n-at >= headSize {
				if _, err := parseBlockHead(buf[at:n]); err == nil {
					return offset + int64(at)
				}
			}
		}
	}
	return -1
}

// An index ends a sealed segment: the heads of all blocks with their filters, so that a
// reader finds its blocks without reading the others. A trailer of footerSize bytes says
// where it stands.
const (
	footerSize  = 16
	footerMagic = "HINDEX\n\x00"
)

// appendIndex appends the end of a segment whose size is at by then.
func appendIndex(b []byte, refs []blockRef, at int64) []byte {
	b = appendBlock(b, &blockHead{kind: blockIndex, codec: codecS2, count: uint32(len(refs))}, encodeIndex(refs), nil)
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	return append(b, footerMagic...)
}

func encodeIndex(refs []blockRef) []byte {
	b := binary.AppendUvarint(nil, uint64(len(refs)))
	for i := range refs {
		b = binary.AppendUvarint(b, uint64(refs[i].offset))
		b = refs[i].appendTo(b)
		b = appendPart(b, refs[i].pids)
	}
	return b
}

func decodeIndex(body []byte) ([]blockRef, error) {
	in := cutter{b: body}
	n := in.uvarint()
	if n > uint64(len(body)/headSize) {
		return nil, fmt.Errorf("index: %w", errDamaged)
	}
	refs := make([]blockRef, 0, n)
	for range n {
		ref := blockRef{offset: int64(in.uvarint())}
		if len(in.b) < headSize {
			return nil, fmt.Errorf("index: %w", errDamaged)
		}
		h, err := parseBlockHead(in.b)
		if err != nil {
			return nil, err
		}
		in.b = in.b[headSize:]
		ref.blockHead, ref.pids = h, filter(in.part())
		refs = append(refs, ref)
	}
	if in.bad {
		return nil, fmt.Errorf("index: %w", errDamaged)
	}
	return refs, nil
}

// readIndex returns the blocks of a sealed segment, and false where it is not sealed or
// its index is damaged: the blocks can be found without it.
func readIndex(r io.ReaderAt, size int64) ([]blockRef, bool) {
	foot := make([]byte, footerSize)
	if size < footerSize {
		return nil, false
	}
	if _, err := r.ReadAt(foot, size-footerSize); err != nil || string(foot[8:]) != footerMagic {
		return nil, false
	}
	at := int64(binary.LittleEndian.Uint64(foot))
	head := make([]byte, headSize)
	if at < 0 || at > size-footerSize-headSize {
		return nil, false
	}
	if _, err := r.ReadAt(head, at); err != nil {
		return nil, false
	}
	h, err := parseBlockHead(head)
	if err != nil || h.kind != blockIndex {
		return nil, false
	}
	body, err := readBody(r, at, &h)
	if err != nil {
		return nil, false
	}
	refs, err := decodeIndex(body)
	return refs, err == nil
}

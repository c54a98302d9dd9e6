// SPDX-License-Identifier: Apache-2.0

package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// A block is what is written and synced at once:
//
//	offset size
//	     0    4  blockMagic
//	     4    1  kind
//	     5    1  codec
//	     6    2  zero
//	     8    4  entries
//	    12    4  bytes of the body before it was compressed
//	    16    4  bytes stored
//	    20    4  CRC-32C of what is stored
//	    24    8  sequence of the first entry
//	    32    8  time of the earliest entry, CLOCK_BOOTTIME ns
//	    40    8  time of the latest entry
//	    48    4  zero
//	    52    4  CRC-32C of the 52 bytes before
//
// and then the stored body. Numbers are little endian.
const (
	headSize   = 56
	blockMagic = 0x4b4c4248 // "HBLK"

	// maxBody bounds what a damaged or hostile head can make a reader allocate.
	maxBody = 64 << 20
)

// blockKind says what a block's body is.
type blockKind uint8

const (
	blockCheckpoint blockKind = 1 + iota // the state of the tree before the first row
	blockRows                            // rows.encode
	blockLines                           // notable events: their sequences, then their JSON
	blockIndex                           // at the end of a sealed segment
)

// codec is how a body is compressed.
type codec uint8

const (
	codecNone codec = iota
	codecS2         // when it is written: quick
	codecZstd       // when its segment is sealed: small
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type blockHead struct {
	kind     blockKind
	codec    codec
	count    uint32
	raw      uint32
	stored   uint32
	sum      uint32
	seq      uint64
	from, to uint64
}

func (h *blockHead) appendTo(b []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, blockMagic)
	b = append(b, byte(h.kind), byte(h.codec), 0, 0)
	for _, v := range [...]uint32{h.count, h.raw, h.stored, h.sum} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, v := range [...]uint64{h.seq, h.from, h.to} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// errDamaged is wrapped by every error that says that bytes are not what was written.
var errDamaged = errors.New("damaged")

func parseBlockHead(b []byte) (h blockHead, err error) {
	le := binary.LittleEndian
	if len(b) < headSize || le.Uint32(b) != blockMagic || le.Uint32(b[52:]) != crc32.Checksum(b[:52], castagnoli) {
		return h, fmt.Errorf("block head: %w", errDamaged)
	}
	h = blockHead{kind: blockKind(b[4]), codec: codec(b[5]), count: le.Uint32(b[8:]), raw: le.Uint32(b[12:]),
		stored: le.Uint32(b[16:]), sum: le.Uint32(b[20:]), seq: le.Uint64(b[24:]), from: le.Uint64(b[32:]), to: le.Uint64(b[40:])}
	if h.raw > maxBody || h.stored > maxBody {
		return h, fmt.Errorf("block of %d bytes: %w", max(h.raw, h.stored), errDamaged)
	}
	return h, nil
}

// appendBlock appends a whole block with that body to b. It completes the head.
func appendBlock(b []byte, h *blockHead, body []byte, enc *zstd.Encoder) []byte {
	at := len(b)
	b = append(b, make([]byte, headSize)...)
	switch h.codec {
	case codecS2:
		// In place behind the head, without a copy.
		n := s2.MaxEncodedLen(len(body))
		if cap(b)-len(b) < n {
			b = append(b, make([]byte, n)...)[:len(b)]
		}
		b = append(b, s2.Encode(b[len(b):len(b)+n], body)...)
	case codecZstd:
		b = enc.EncodeAll(body, b)
	default:
		b = append(b, body...)
	}
	stored := b[at+headSize:]
	h.raw, h.stored, h.sum = uint32(len(body)), uint32(len(stored)), crc32.Checksum(stored, castagnoli)
	h.appendTo(b[:at])
	return b
}

// decoders are one zstd decoder for everybody: it may be used by several goroutines.
var decoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody))

// readBody reads and checks the body of the block whose head stands at offset.
func readBody(r io.ReaderAt, offset int64, h *blockHead) ([]byte, error) {
	stored := make([]byte, h.stored)
	if _, err := r.ReadAt(stored, offset+headSize); err != nil {
		return nil, fmt.Errorf("block at %d: %w", offset, errDamaged)
	}
	if crc32.Checksum(stored, castagnoli) != h.sum {
		return nil, fmt.Errorf("block at %d: checksum: %w", offset, errDamaged)
	}
	body, err := stored, error(nil)
	switch h.codec {
	case codecNone:
	case codecS2:
		var n int
		if n, err = s2.DecodedLen(stored); err == nil && n == int(h.raw) {
			body, err = s2.Decode(nil, stored)
		}
	case codecZstd:
		body, err = decoder.DecodeAll(stored, make([]byte, 0, h.raw))
	default:
		return nil, fmt.Errorf("block at %d: codec %d is not known", offset, h.codec)
	}
	if err != nil || len(body) != int(h.raw) {
		return nil, fmt.Errorf("block at %d: body: %w", offset, errDamaged)
	}
	return body, nil
}

// SPDX-License-Identifier: Apache-2.0

// Package history keeps on disk what the tracker was told, so that the past can be asked
// by the code of the present: kernel records and whatever else changes the tree, and,
// apart and kept longer, the notable events as people were told them.
//
// A history is a directory of segments. A segment holds a checkpoint and blocks of rows
// in columns; each block is compressed, has a checksum, and is synced within a second.
// Sealed segments are compressed again and have an index. Old segments are unlinked, the
// oldest first; nothing is ever changed in place.
//
//	Append, Note, Line (memory) -> writer (write, sync) -> sealer (zstd, index) -> unlink
//
// One goroutine, the loop, appends. Readers may be any.
package history

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// When a block is handed to the writer, and a segment ends.
const (
	blockBytes      = 2 << 20
	blockTime       = time.Second
	lineTime        = 100 * time.Millisecond // where something notable waits
	segmentTime     = time.Hour
	retryTime       = 10 * time.Second // between two segments where writing fails
	segmentEntries  = 1 << 20          // bounds what is replayed from a checkpoint
	segmentBytes    = 64 << 20
	notableBytes    = 4 << 20
	notableTime     = 24 * time.Hour
	maxPendingBytes = 32 << 20
)

// Limits bound what is kept of each class. Size goes first, then age.
type Limits struct {
	Size        int64
	Age         time.Duration
	NotableSize int64
	NotableAge  time.Duration
}

// DefaultLimits are those of a configuration that says nothing.
var DefaultLimits = Limits{Size: 512 << 20, Age: 14 * 24 * time.Hour, NotableSize: 64 << 20, NotableAge: 90 * 24 * time.Hour}

// Options of Open.
type Options struct {
	Machine, Boot string
	Host          string // the name of the machine, for people
	Limits        Limits
	// OnSynced is called by the writer with the sequence up to which the stream is on
	// the disk, or will never be: the ring's records before it can be given back.
	OnSynced func(seq uint64)
	// Log gets the store's own troubles; nil is slog.Default.
	Log *slog.Logger
	// now and wall are the clocks; tests replace them.
	now  func() uint64
	wall func() time.Time
	free func() (free, total int64, err error)
}

// A Store is an open history. Append, Note, Line, Tick, NeedsCheckpoint and Checkpoint
// belong to the loop and never block on the disk. Everything else may be called from any
// goroutine. Close it.
type Store struct {
	dir *rootfile.Dir
	opt Options
	log *slog.Logger

	// The loop's own.
	epoch      string
	rows       *rows
	rowsSeq    uint64 // of the first row in rows
	seq        uint64 // of the next row
	lines      *lineBlock
	notable    uint64 // sequence of the next line
	begun      uint64 // when the first row or line was appended, CLOCK_BOOTTIME ns
	lineBegun  uint64 // when the first line was
	inSegment  int    // rows appended since the last checkpoint
	segmentAt  uint64 // when that was
	needsStart bool

	mu       sync.Mutex
	jobs     []job
	pending  int // bytes of the jobs
	spare    []*rows
	segments map[Class][]*segment // oldest first; the last may be the active one
	stats    Stats
	failing  map[Class]string // the last write's error
	limits   Limits
	closing  bool
	writing  bool          // jobs were taken and are not written yet
	flushed  chan struct{} // closed and made anew after each write

	sealing sync.Mutex // one at a time
	wake    chan struct{}
	seal    chan struct{}
	quit    chan struct{} // closed when the writer has ended
	done    sync.WaitGroup
	// broken says that the stream's segment cannot be written on: what follows means
	// nothing before another checkpoint.
	broken  atomic.Bool
	writers map[Class]*writer
}

// A job is what the loop hands to the writer.
type job struct {
	class Class
	// checkpoint begins a new segment, where it is not nil, as of that time.
	checkpoint []byte
	opened     time.Time
	openedNS   uint64
	rows       *rows
	lines      *lineBlock
	seq        uint64
	bytes      int
}

// Open reads what is in the directory, sets aside what is damaged or foreign, and begins
// to write. It reads the heads of the blocks of unsealed segments, and of sealed ones
// the index.
func Open(dir *rootfile.Dir, opt Options) (*Store, error) {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.now == nil {
		opt.now = boottime.Now
	}
	if opt.wall == nil {
		opt.wall = time.Now
	}
	if opt.free == nil {
		opt.free = func() (int64, int64, error) { return diskSpace(dir.Path()) }
	}
	if opt.Limits == (Limits{}) {
		opt.Limits = DefaultLimits
	}
	s := &Store{dir: dir, opt: opt, log: opt.Log, limits: opt.Limits, rows: newRows(), lines: new(lineBlock),
		segments: make(map[Class][]*segment), failing: make(map[Class]string), flushed: make(chan struct{}), wake: make(chan struct{}, 1),
		seal: make(chan struct{}, 1), quit: make(chan struct{}), needsStart: true, writers: make(map[Class]*writer)}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("history %s: %w", dir.Path(), err)
	}
	s.begin()
	return s, nil
}

// load lists the segments.
func (s *Store) load() error {
	names, err := s.dir.Names()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		class, _, ok := parseSegmentName(name)
		if !ok {
			s.removeLeftover(name)
			continue
		}
		seg, err := openSegment(s.dir, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			s.setAside(name, err)
		case seg.head.Machine != s.opt.Machine:
			s.setAside(name, fmt.Errorf("of another machine (%s)", seg.head.Machine))
		case seg.head.Class != class:
			s.setAside(name, fmt.Errorf("its name says %s, its head %s", class, seg.head.Class))
		default:
			s.segments[class] = append(s.segments[class], seg)
			s.epoch = seg.head.Epoch
		}
	}
	if s.epoch == "" {
		s.epoch = newEpoch()
	}
	s.seq, s.notable = s.next(Stream), s.next(Notable)
	s.rowsSeq = s.seq
	return nil
}

// next is the sequence behind all that is kept of a class.
func (s *Store) next(class Class) uint64 {
	end := uint64(1)
	for _, seg := range s.segments[class] {
		end = max(end, seg.end())
	}
	return end
}

func newEpoch() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails: crypto/rand, Go 1.24
	return hex.EncodeToString(b)
}

// removeLeftover removes what a writer that died left half made.
func (s *Store) removeLeftover(name string) {
	if len(name) > len(sealingMark) && name[len(name)-len(sealingMark):] == sealingMark {
		if err := s.dir.Remove(name); err != nil {
			s.log.Warn("history: leftover file not removed", "file", name, "error", err)
		}
	}
}

// setAside renames a segment that cannot be used, so that it is neither read nor lost.
func (s *Store) setAside(name string, why error) {
	s.stats.SetAside++
	s.log.Warn("history: segment set aside", "file", name, "reason", why)
	if errors.Is(why, ErrVersion) {
		return // a later version can read it
	}
	if err := s.dir.Rename(name, name+asideMark); err != nil {
		s.log.Warn("history: segment not set aside", "file", name, "error", err)
	}
}

// Seq is the sequence that the next entry of the stream gets. The loop's.
func (s *Store) Seq() uint64 { return s.seq }

// NotableSeq is the sequence that the next line gets. The loop's.
func (s *Store) NotableSeq() uint64 { return s.notable }

// Epoch tells this history from another one of the same machine.
func (s *Store) Epoch() string { return s.epoch }

// NeedsCheckpoint reports whether a new segment is to begin: the first one, or because
// the one that is written has grown large or old.
func (s *Store) NeedsCheckpoint() bool {
	age := s.opt.now() - s.segmentAt
	return s.needsStart || s.inSegment >= segmentEntries || age >= uint64(segmentTime) ||
		age >= uint64(retryTime) && s.broken.Load()
}

// Checkpoint begins a new segment with the state of the tree at this point of the stream.
// The store keeps body.
func (s *Store) Checkpoint(body []byte) {
	s.flushRows()
	ns, at := boottime.Both(s.opt.now, s.opt.wall)
	s.needsStart, s.inSegment, s.segmentAt = false, 0, ns
	s.hand(job{class: Stream, checkpoint: body, opened: at, openedNS: ns, seq: s.seq, bytes: len(body)})
}

// Append appends a kernel record. It keeps nothing of e.
func (s *Store) Append(e *event.Event) {
	s.rows.appendEvent(e)
	s.appended()
}

// Note appends what else changes the tree. It keeps nothing of n.
func (s *Store) Note(n *Note) {
	s.rows.appendNote(n)
	s.appended()
}

func (s *Store) appended() {
	s.seq++
	s.inSegment++
	if s.begun == 0 {
		s.begun = s.opt.now()
	}
	if s.rows.bytes >= blockBytes {
		s.flushRows()
	}
}

// Line appends a notable event with the sequence NotableSeq. It keeps nothing of b.
func (s *Store) Line(ns uint64, b []byte) {
	s.lines.append(ns, b)
	s.notable++
	if s.lineBegun == 0 {
		s.lineBegun = s.opt.now()
	}
	if s.begun == 0 {
		s.begun = s.lineBegun
	}
}

// Tick hands what has waited for a second to the writer, and what is notable, with all before
// it, sooner: what a killed daemon had in memory is lost, but for the kernel's records. It
// returns when it wants to be called again at the latest; 0 is any time.
func (s *Store) Tick(now uint64) uint64 {
	if s.begun == 0 {
		return 0
	}
	due := s.begun + uint64(blockTime)
	if s.lineBegun != 0 {
		due = min(due, s.lineBegun+uint64(lineTime))
	}
	if now < due {
		return due
	}
	s.Flush()
	return 0
}

// Flush hands everything to the writer. The loop's; it does not wait.
func (s *Store) Flush() {
	s.flushRows()
	if len(s.lines.times) > 0 {
		l := s.lines
		s.hand(job{class: Notable, lines: l, seq: s.notable - uint64(len(l.times)), bytes: len(l.body)})
		s.lines = new(lineBlock)
	}
	s.begun, s.lineBegun = 0, 0
}

func (s *Store) flushRows() {
	if s.rows.len() == 0 {
		return
	}
	full, first := s.rows, s.rowsSeq
	s.rowsSeq = s.seq
	s.mu.Lock()
	if n := len(s.spare); n > 0 {
		s.rows, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		s.rows = newRows()
	}
	s.mu.Unlock()
	s.hand(job{class: Stream, rows: full, seq: first, bytes: full.bytes})
}

// hand gives a job to the writer. Where the writer is too far behind, rows are dropped
// and counted: the stream goes on.
func (s *Store) hand(j job) {
	s.mu.Lock()
	if s.pending > maxPendingBytes && j.rows != nil {
		s.stats.Dropped += uint64(j.rows.len())
		s.stats.NewlyDropped += uint64(j.rows.len())
		s.recycle(j.rows)
	} else {
		s.jobs = append(s.jobs, j)
		s.pending += j.bytes
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// recycle keeps rows for another block. s.mu is held.
func (s *Store) recycle(r *rows) {
	if len(s.spare) < 2 {
		r.reset()
		s.spare = append(s.spare, r)
	}
}

// A lineBlock is notable events that wait to be written.
type lineBlock struct {
	times []uint64
	body  []byte
}

func (l *lineBlock) append(ns uint64, b []byte) {
	l.times = append(l.times, ns)
	l.body = appendPart(l.body, b)
}

// SPDX-License-Identifier: Apache-2.0

package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// sealAll seals what can be sealed.
func (s *Store) sealAll() {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	for _, class := range []Class{Stream, Notable} {
		for _, seg := range s.unsealed(class) {
			if err := s.sealSegment(seg); err != nil && !errors.Is(err, errClosing) {
				s.log.Warn("history: segment not sealed", "file", seg.name, "error", err)
			}
		}
	}
}

var errClosing = errors.New("the store is closing")

func (s *Store) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Store) unsealed(class Class) (list []*segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments[class] {
		if !seg.sealed && !seg.active {
			list = append(list, seg)
		}
	}
	return list
}

// sealSegment writes a segment anew, smaller and with an index, and puts it in the place
// of the old one. A block that is damaged is left out and told.
func (s *Store) sealSegment(seg *segment) error {
	in, err := s.dir.Open(seg.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // retention was quicker
	}
	if err != nil {
		return err
	}
	defer in.Close()
	temporary := seg.name + sealingMark
	if err := s.dir.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := s.dir.Create(temporary, 0o600)
	if err != nil {
		return err
	}
	sealed, err := s.rewrite(seg, in, out)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = s.dir.Rename(temporary, seg.name)
	}
	if err != nil {
		return errors.Join(err, s.dir.Remove(temporary))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.segments[seg.head.Class], seg); i >= 0 {
		s.segments[seg.head.Class][i] = sealed
	}
	return nil
}

// rewrite copies the blocks of seg, compressed again.
func (s *Store) rewrite(seg *segment, in, out *os.File) (*segment, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	sealed := &segment{name: seg.name, head: seg.head, sealed: true}
	b, err := seg.head.encode()
	if err != nil {
		return nil, err
	}
	write := func(b []byte) error {
		n, err := out.Write(b)
		sealed.size += int64(n)
		return err
	}
	if err := write(b); err != nil {
		return nil, err
	}
	for i := range seg.refs {
		if s.isClosing() {
			return nil, errClosing // the next one seals it
		}
		ref := seg.refs[i]
		body, err := readBody(in, ref.offset, &ref.blockHead)
		if err != nil {
			s.damaged(seg, &ref, err)
			continue
		}
		if ref.kind == blockRows && ref.pids == nil {
			ref.pids = filterOf(body, seg.head)
		}
		ref.codec, ref.offset = codecZstd, sealed.size
		if err := write(appendBlock(b[:0], &ref.blockHead, body, enc)); err != nil {
			return nil, err
		}
		sealed.refs = append(sealed.refs, ref)
	}
	return sealed, write(appendIndex(nil, sealed.refs, sealed.size))
}

// damaged counts and tells of a block that could not be read.
func (s *Store) damaged(seg *segment, ref *blockRef, err error) {
	s.mu.Lock()
	s.stats.Damaged += uint64(ref.count)
	s.mu.Unlock()
	s.log.Warn("history: block lost", "file", seg.name, "entries", ref.count, "error", err)
}

// filterOf makes the filter of a block that was written by a daemon that died.
func filterOf(body []byte, head *SegmentHead) filter {
	plans := plan(head.Columns)
	pids := make(map[int32]struct{})
	err := decodeRows(body, 0, head.Columns, &plans, func(e Entry) bool {
		if e.Note != nil {
			pids[e.Note.ID.PID] = struct{}{}
			return true
		}
		for _, pid := range pidsOf(e.Event) {
			pids[pid] = struct{}{}
		}
		return true
	})
	if err != nil {
		return nil
	}
	return newFilter(pids)
}

// Shares of the file system.
const (
	maxShare = 10 // percent of it that the history takes at most
	keepFree = 15 // percent of it that the history leaves free
)

// ErrNoSpace is wrapped where the file system has no room for more history.
var ErrNoSpace = errors.New("no room on the file system")

// roomFor refuses the lifecycle where the file system is nearly full. The notable goes on
// as long as it can be written.
func (s *Store) roomFor(j *job) error {
	if j.class == Notable {
		return nil
	}
	free, total, err := s.opt.free()
	if err != nil || total == 0 || free*100 >= total*keepFree {
		return nil
	}
	if s.freeOldest() {
		return nil
	}
	return fmt.Errorf("%d of %d MB are free, %d %% are left to others: %w", free>>20, total>>20, keepFree, ErrNoSpace)
}

// freeOldest unlinks the oldest segment of the stream that is not being written.
func (s *Store) freeOldest() bool {
	seg := s.oldest(Stream)
	return seg != nil && s.unlink(seg)
}

// oldest is the oldest segment of a class that is not being written; nil where there is none.
func (s *Store) oldest(class Class) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list := s.segments[class]; len(list) > 0 && !list[0].active {
		return list[0]
	}
	return nil
}

// retain unlinks what is beyond the limits: by size first, then by age.
func (s *Store) retain() {
	_, total, err := s.opt.free()
	s.mu.Lock()
	l := s.limits
	s.mu.Unlock()
	if err == nil && total > 0 {
		l.Size = min(l.Size, total*maxShare/100)
		l.NotableSize = min(l.NotableSize, total*maxShare/100)
	}
	s.retainClass(Stream, l.Size, l.Age)
	s.retainClass(Notable, l.NotableSize, l.NotableAge)
}

func (s *Store) retainClass(class Class, limit int64, age time.Duration) {
	expired := s.opt.wall().Add(-age)
	for seg := s.oldest(class); seg != nil; seg = s.oldest(class) {
		if s.size(class) <= limit && (age <= 0 || seg.head.Wall(seg.last()).After(expired)) || !s.unlink(seg) {
			return
		}
	}
}

func (s *Store) size(class Class) (sum int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments[class] {
		sum += seg.size
	}
	return sum
}

// unlink removes the oldest segment of its class, which is not being written. The loop may
// want s.mu meanwhile: it is not held while the disk is waited for.
func (s *Store) unlink(seg *segment) bool {
	if err := s.dir.Remove(seg.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("history: segment not removed", "file", seg.name, "error", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	class := seg.head.Class
	s.segments[class] = slices.DeleteFunc(s.segments[class], func(o *segment) bool { return o.name == seg.name })
	s.stats.Expired++
	return true
}

func diskSpace(path string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// SetLimits replaces the limits. What is beyond the new ones is unlinked soon.
func (s *Store) SetLimits(l Limits) {
	s.mu.Lock()
	s.limits = l
	s.mu.Unlock()
	s.sealSoon()
}

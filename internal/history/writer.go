// SPDX-License-Identifier: Apache-2.0

package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
)

// A writer writes the active segment of one class. It belongs to the writing goroutine.
type writer struct {
	store *Store
	class Class
	file  *os.File
	seg   *segment
	buf   []byte
	// broken says that the last write failed: the next begins a new segment.
	broken bool
}

// begin starts the goroutines.
func (s *Store) begin() {
	for _, class := range []Class{Stream, Notable} {
		s.writers[class] = &writer{store: s, class: class}
	}
	s.done.Add(2)
	go func() {
		defer s.done.Done()
		inBackground()
		s.write()
	}()
	go func() {
		defer s.done.Done()
		inBackground()
		for {
			select {
			case <-s.seal:
				s.sealAll()
				s.retain()
			case <-s.quit:
				return
			}
		}
	}()
	s.sealSoon()
}

// inBackground gives the calling goroutine a thread of its own that gets what others
// leave: nice 19 and the idle I/O class (sched(7), ioprio_set(2)). The thread ends with
// its goroutine. Where that is refused it goes on as it is.
func inBackground() {
	runtime.LockOSThread()
	const (
		whoProcess = 1       // IOPRIO_WHO_PROCESS
		idleClass  = 3 << 13 // IOPRIO_CLASS_IDLE
	)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, idleClass)
}

func (s *Store) sealSoon() {
	select {
	case s.seal <- struct{}{}:
	default:
	}
}

// write writes what the loop hands over until the store is closed.
func (s *Store) write() {
	defer close(s.quit)
	for range s.wake {
		s.mu.Lock()
		jobs, closing := s.jobs, s.closing
		s.jobs, s.pending, s.writing = nil, 0, true
		s.mu.Unlock()
		s.writeJobs(jobs)
		s.mu.Lock()
		s.writing = false
		close(s.flushed)
		s.flushed = make(chan struct{})
		s.mu.Unlock()
		if closing {
			for _, w := range s.writers {
				w.finish()
			}
			return
		}
	}
}

// writeJobs writes jobs, syncs the files that they went to, and says how far the stream
// is on the disk.
func (s *Store) writeJobs(jobs []job) {
	upTo := uint64(0)
	for i := range jobs {
		j := &jobs[i]
		w := s.writers[j.class]
		if err := w.job(j); err != nil {
			s.failed(j, err)
			w.broken = true
			s.broken.Store(s.broken.Load() || j.class == Stream)
		}
		if j.rows != nil {
			upTo = j.seq + uint64(j.rows.len())
			s.mu.Lock()
			s.recycle(j.rows)
			s.mu.Unlock()
		}
	}
	for _, w := range s.writers {
		if err := w.sync(); err != nil {
			s.log.Warn("history: not synced", "file", w.seg.name, "error", err)
		}
	}
	if upTo != 0 && s.opt.OnSynced != nil {
		s.opt.OnSynced(upTo)
	}
}

// failed counts what could not be written, and says so once for each row of failures.
func (s *Store) failed(j *job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case j.rows != nil:
		s.stats.Dropped += uint64(j.rows.len())
		s.stats.NewlyDropped += uint64(j.rows.len())
	case j.lines != nil:
		s.stats.NotableDropped += uint64(len(j.lines.times))
	}
	if s.failing[j.class] == "" {
		s.log.Warn("history: not written", "class", string(j.class), "error", err)
	}
	s.failing[j.class] = err.Error()
}

func (w *writer) job(j *job) error {
	s := w.store
	if err := s.roomFor(j); err != nil {
		return err
	}
	switch {
	case j.checkpoint != nil:
		if err := w.start(j); err != nil {
			return err
		}
		return w.block(&blockHead{kind: blockCheckpoint, codec: codecS2, seq: j.seq}, j.checkpoint, nil)
	case j.rows != nil:
		if w.file == nil || w.broken {
			// The tree at this point is not known: nothing can be replayed from here.
			return errors.New("no segment is open: it waits for the next checkpoint")
		}
		r := j.rows
		return w.block(&blockHead{kind: blockRows, codec: codecS2, count: uint32(r.len()), seq: j.seq, from: r.from, to: r.to},
			r.encode(nil), newFilter(r.pids))
	}
	if w.file == nil || w.broken || w.seg.size > notableBytes || s.opt.now()-w.seg.head.OpenedNS > uint64(notableTime) {
		j.openedNS, j.opened = boottime.Both(s.opt.now, s.opt.wall)
		if err := w.start(j); err != nil {
			return err
		}
	}
	l := j.lines
	return w.block(&blockHead{kind: blockLines, codec: codecS2, count: uint32(len(l.times)), seq: j.seq,
		from: slices.Min(l.times), to: slices.Max(l.times)}, l.encode(), nil)
}

func (l *lineBlock) encode() []byte {
	b := make([]byte, 0, len(l.body)+9*len(l.times))
	last := uint64(0)
	for _, ns := range l.times {
		b = binary.AppendVarint(b, int64(ns-last))
		last = ns
	}
	return append(b, l.body...)
}

// start begins a new segment with a job. The one before is left to the sealer.
func (w *writer) start(j *job) error {
	s := w.store
	w.finish()
	head := &SegmentHead{Format: formatVersion, Class: w.class, Machine: s.opt.Machine, Boot: s.opt.Boot, Epoch: s.epoch,
		Host: s.opt.Host, FirstSeq: j.seq, Opened: j.opened, OpenedNS: j.openedNS}
	if w.class == Stream {
		head.Columns = columns
	}
	b, err := head.encode()
	if err != nil {
		return err
	}
	name := segmentName(w.class, j.seq)
	f, err := s.dir.Create(name, 0o600)
	if errors.Is(err, os.ErrExist) {
		// Nothing was ever appended to it: a segment with entries ends above its first.
		if err = s.dir.Remove(name); err == nil {
			f, err = s.dir.Create(name, 0o600)
		}
	}
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return errors.Join(err, s.dir.Remove(name))
	}
	w.file, w.broken = f, false
	if w.class == Stream {
		s.broken.Store(false)
	}
	w.seg = &segment{name: name, head: head, size: int64(len(b)), active: true}
	s.mu.Lock()
	s.segments[w.class] = append(slices.DeleteFunc(s.segments[w.class], func(o *segment) bool { return o.name == name }), w.seg)
	s.mu.Unlock()
	s.sealSoon()
	return nil
}

// block writes one block.
func (w *writer) block(h *blockHead, body []byte, pids filter) error {
	if len(body) > maxBody {
		return fmt.Errorf("block of %d bytes is larger than %d", len(body), maxBody)
	}
	w.buf = appendBlock(w.buf[:0], h, body, nil)
	if _, err := w.file.Write(w.buf); err != nil {
		// What was written of it is found by its checksum to be nothing.
		return err
	}
	s := w.store
	s.mu.Lock()
	defer s.mu.Unlock()
	w.seg.refs = append(w.seg.refs, blockRef{blockHead: *h, offset: w.seg.size, pids: pids})
	w.seg.size += int64(len(w.buf))
	delete(s.failing, w.class)
	s.stats.Written += uint64(len(w.buf))
	if h.kind == blockRows {
		s.stats.Entries += uint64(h.count)
	}
	return nil
}

func (w *writer) sync() error {
	if w.file == nil {
		return nil
	}
	return unix.Fdatasync(int(w.file.Fd()))
}

// finish closes the active segment, whose blocks are all on the disk by then.
func (w *writer) finish() {
	if w.file == nil {
		return
	}
	if err := errors.Join(w.sync(), w.file.Close()); err != nil {
		w.store.log.Warn("history: segment not closed", "file", w.seg.name, "error", err)
	}
	w.store.mu.Lock()
	w.seg.active = false
	w.store.mu.Unlock()
	w.file = nil
}

// Close writes what is left, and waits until that is on the disk. The loop must have
// ended.
func (s *Store) Close() error {
	s.Flush()
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	s.done.Wait()
	return nil
}

// Changed returns a channel that is closed when something was written next. From any
// goroutine.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushed
}

// Wait blocks until what was handed over before is written, or d has passed.
func (s *Store) Wait(d time.Duration) {
	timeout := time.After(d)
	for {
		s.mu.Lock()
		flushed, idle := s.flushed, len(s.jobs) == 0 && !s.writing
		s.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-flushed:
		case <-timeout:
			return
		}
	}
}

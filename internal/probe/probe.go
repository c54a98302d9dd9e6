// SPDX-License-Identifier: Apache-2.0

// Package probe loads and attaches the BPF programs, reads their ring and decodes
// its records. It is the only importer of package bpf.
package probe

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
)

// DefaultRingBytes holds four seconds of the fastest fork storm two cores can make.
const DefaultRingBytes = 16 << 20

// Options of Open. The zero value is the default.
type Options struct {
	// RingBytes is the size of the ring: a power of two, at least a page.
	// 0 is DefaultRingBytes.
	RingBytes uint32
	// NoArgs leaves out the optional object: no file names, no arguments, no
	// cross-check of children, nothing that confidentiality lockdown refuses.
	NoArgs bool

	// Store keeps the programs attached and their records waiting when this process
	// ends; the next Open with it goes on from there. nil is none.
	Store Store
	// From is where the reader stood whose state is at hand; zero without one.
	From Position
	// Hold is how many bytes of handled records at most wait in the ring for a Commit,
	// so that they are repeated to a successor that has not seen their effect. 0 gives
	// each record back as soon as it is handled.
	Hold uint64
}

var errLeftOut = errors.New("left out on request")

func (o Options) ringBytes() uint32 {
	if o.RingBytes == 0 {
		return DefaultRingBytes
	}
	return o.RingBytes
}

// A Probe sees every fork, exec, exit, OOM kill and fatal signal of the reader's pid
// namespace and those below it.
//
// Read, Wait, Position, Commit and Close belong to one goroutine; Wake, Tasks, Usage,
// EachTask, Refused and RefusedOf may be called from any.
type Probe struct {
	now *attachment // whose programs are attached for good; nil after Close
	// open is held, to read, by those who list processes, on whatever goroutine: Close waits for them.
	open    sync.RWMutex
	store   Store
	past    Past
	record  event.Event
	decodes uint64 // records that could not be decoded

	// before holds attachments of earlier versions, oldest first: their records come
	// first. done holds those that are read to the end, until the next Commit.
	before, done []*attachment
	reading      atomic.Pointer[attachment]
	overlap      overlap

	seen   atomic.Int64 // tasks in the last look
	each   sync.Mutex
	reader *taskReader // of EachTask, under each
}

// Open loads and attaches everything, or goes on with what the store has kept. From
// its return on nothing is missed: records wait in the ring until they are read. The
// error says what is missing: see [Hint].
func Open(opt Options) (_ *Probe, err error) {
	if err := Check(); err != nil {
		return nil, err
	}
	p := &Probe{store: opt.Store}
	defer func() {
		if err != nil {
			_ = p.Close()
		}
	}()
	if err := p.resume(opt); err != nil {
		return nil, err
	}
	if p.now == nil {
		if p.now, err = attach(opt); err != nil {
			return nil, err
		}
		if err := p.now.keep(opt.Store); err != nil {
			p.past.note("the programs end with this process: %v", err)
		}
	}
	p.begin(opt)
	return p, nil
}

// ArgsError says why file names and arguments are not traced, nil when they are.
func (p *Probe) ArgsError() error { return p.now.argsErr }

// Close gives up everything that Open made. What a store keeps stays attached, and its
// records wait for the next Open.
func (p *Probe) Close() error {
	p.open.Lock()
	defer p.open.Unlock()
	var errs []error
	for _, a := range append(append(p.done, p.before...), p.now) {
		if a != nil {
			errs = append(errs, a.close())
		}
	}
	p.now, p.before, p.done = nil, nil, nil
	return errors.Join(errs...)
}

// Read hands at most limit waiting records to fn, in the order in which they
// happened, and returns how many it took from the ring. The event is reused: fn
// keeps what it needs of it by value. A record is given back to the kernel when fn
// has returned, or with Hold, later. Records that cannot be decoded are counted and
// left out.
func (p *Probe) Read(limit int, fn func(*event.Event)) int {
	n := 0
	for len(p.before) > 0 && n < limit {
		r := p.before[0].ring
		got := p.readBefore(limit-n, fn)
		if n += got; r.enough || got == 0 && !p.advance() {
			return n
		}
	}
	a := p.now
	a.misses.ask()
	return n + a.ring.read(limit-n, func(b []byte) {
		if err := Decode(b, &p.record); err != nil {
			p.decodes++
			return
		}
		if p.overlap.repeats(&p.record) {
			return
		}
		p.record.Refused += a.base + a.misses.count.Load()
		fn(&p.record)
	})
}

// pace is how long the programs keep quiet about records that can wait when the reader
// has said that it looks by itself (WAKE_NS in bpf/record.bpf.h).
const pace = 5 * time.Millisecond

// Wait blocks until something urgent happened, Wake was called, or d has passed. Records
// that can wait end it only where d is longer than 5 ms, or 5 ms have passed since one
// of them ended a Wait.
func (p *Probe) Wait(d time.Duration) error {
	if len(p.before) > 0 {
		d = min(d, time.Millisecond)
	}
	a := p.now
	if d <= pace {
		// As much again for a timer that is late.
		atomic.StoreUint64(&a.counters.LooksBy, boottime.Now()+uint64(2*pace))
		return a.ring.wait(d)
	}
	atomic.StoreUint64(&a.counters.LooksBy, 0)
	// One that was written before that has woken nobody.
	if !a.ring.stalled && a.ring.used() > 0 {
		return nil
	}
	return a.ring.wait(d)
}

// Wake ends a Wait.
func (p *Probe) Wake() { p.now.ring.wake() }

// Refused is how many records the ring has refused for want of room, or the kernel because
// their program was running already, ever: it goes on from what the reader before had counted.
func (p *Probe) Refused() uint64 { return p.reading.Load().refused() }

// RefusedOf is the share of one kind, since the programs were attached.
func (p *Probe) RefusedOf(kind event.Kind) uint64 {
	counters := p.reading.Load().counters
	if int(kind) >= len(counters.RefusedOf) {
		return 0
	}
	return atomic.LoadUint64(&counters.RefusedOf[kind])
}

// Suppressed is how many signals that ended nobody were not told, since the programs
// were attached: there is a limit for each target.
func (p *Probe) Suppressed() uint64 {
	return atomic.LoadUint64(&p.reading.Load().counters.Suppressed)
}

// Malformed is how many records could not be decoded: not 0 means that programs and
// reader disagree. It belongs to the reading goroutine.
func (p *Probe) Malformed() uint64 { return p.decodes }

// Pending is how many bytes wait in the ring to be read.
func (p *Probe) Pending() uint64 {
	n := p.now.ring.used()
	for _, a := range p.before {
		n += a.ring.used()
	}
	return n
}

// StopReading ends the call of Read that is under way, after the record at hand. It is for
// the function given to Read.
func (p *Probe) StopReading() { p.reading.Load().ring.enough = true }

// Mark is where the reader stands in the ring. It belongs to the reading goroutine.
func (p *Probe) Mark() uint64 {
	if len(p.before) > 0 {
		return noMark
	}
	return p.now.ring.at
}

// noMark is where no reader stands: positions are multiples of 8.
const noMark = ^uint64(0)

// Untouched reports whether no record was begun since the reader stood at the mark. It
// may be called from any goroutine until the probe is closed.
func (p *Probe) Untouched(mark uint64) bool { return p.reading.Load().ring.written() == mark }

// Size is how many bytes the ring holds.
func (p *Probe) Size() uint64 { return p.now.ring.size }

// Tasks returns every process of the reader's pid namespace and those below it, as
// the kernel has them now: one read, no procfs. CPU and memory include all threads.
func (p *Probe) Tasks() ([]event.Task, error) { return p.readTasks(keptSnapshot, p.newReader()) }

// Usage is Tasks without what rarely changes: of cgroup, origin and the adoption of
// orphans it says nothing. It takes a third of the time.
func (p *Probe) Usage() ([]event.Task, error) { return p.readTasks(keptUsage, p.newReader()) }

// newReader has room for somewhat more than there was the last time.
func (p *Probe) newReader() *taskReader {
	seen := int(p.seen.Load())
	return newTaskReader(max(256, seen+seen/8))
}

func (p *Probe) readTasks(iterator string, r *taskReader) ([]event.Task, error) {
	p.open.RLock()
	defer p.open.RUnlock()
	if p.now == nil {
		return nil, fmt.Errorf("open task iterator: %w", os.ErrClosed)
	}
	f, err := p.now.iterator(iterator).Open()
	if err != nil {
		return nil, fmt.Errorf("open task iterator: %w", err)
	}
	defer f.Close()
	tasks, err := r.readAll(f)
	if err == nil {
		p.seen.Store(int64(len(tasks)))
	}
	return tasks, err
}

// EachTask calls yield with every process, as Usage returns them; from any goroutine.
// What it reads into serves again: it is for those who look again and again.
func (p *Probe) EachTask(yield func(event.Task)) error {
	p.each.Lock()
	defer p.each.Unlock()
	if p.reader == nil {
		p.reader = newTaskReader(256)
	}
	tasks, err := p.readTasks(keptUsage, p.reader)
	if err != nil {
		return err
	}
	for i := range tasks {
		yield(tasks[i])
	}
	if cap(tasks) > 1024+4*len(tasks) {
		p.reader = nil // room for a crowd that is gone
	}
	return nil
}

// Starts returns the exact start of each process that has one of the pids now, in
// CLOCK_BOOTTIME ns; a pid that no process has is left out.
func (p *Probe) Starts(pids []int32) (map[int32]uint64, error) {
	tasks, err := p.Usage()
	if err != nil {
		return nil, err
	}
	starts := make(map[int32]uint64, len(pids))
	for i := range tasks {
		if id := tasks[i].ID; slices.Contains(pids, id.PID) {
			starts[id.PID] = id.Start
		}
	}
	return starts, nil
}

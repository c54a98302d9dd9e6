// SPDX-License-Identifier: Apache-2.0

// Package probe loads and attaches the BPF programs, reads their ring and decodes
// its records. It is the only importer of package bpf.
package probe

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/bpf"
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
}

// A Probe sees every fork, exec, exit, OOM kill and fatal signal of the reader's pid
// namespace and those below it.
//
// Read, Wait and Close belong to one goroutine; Wake, Tasks, Refused and Lag may be
// called from any.
type Probe struct {
	ring     *ring
	counters *bpf.CoreRingCounters
	mapped   []byte
	snapshot *link.Iter
	closers  []func() error
	// ArgsError says why the optional object is not loaded; nil when it is.
	argsErr error
	record  event.Event
	decodes uint64 // records that could not be decoded
}

// Open loads and attaches everything. From its return on nothing is missed: records
// wait in the ring until they are read. The error says what is missing: see [Hint].
func Open(opt Options) (_ *Probe, err error) {
	if err := Check(); err != nil {
		return nil, err
	}
	// Before 5.11 BPF memory counts against the limit. Where raising it is refused
	// and needed, the load says so.
	_ = rlimit.RemoveMemlock()

	p := &Probe{}
	defer func() {
		if err != nil {
			_ = p.Close()
		}
	}()
	core, err := p.loadCore(opt)
	if err != nil {
		return nil, err
	}
	args, err := p.loadArgs(opt, core)
	if err != nil {
		p.argsErr = err
	}
	if err := p.openRing(core); err != nil {
		return nil, err
	}
	if err := p.attach(core, args); err != nil {
		return nil, err
	}
	return p, nil
}

// ArgsError says why file names and arguments are not traced, nil when they are.
func (p *Probe) ArgsError() error { return p.argsErr }

func (p *Probe) closeLater(fn func() error) { p.closers = append(p.closers, fn) }

// loadCore loads the core object: with probe reads for descriptor tables that have
// grown, or where those are refused without.
func (p *Probe) loadCore(opt Options) (*ebpf.Collection, error) {
	coll, err := newCore(opt, !opt.NoArgs)
	if err != nil && !opt.NoArgs {
		coll, err = newCore(opt, false)
	}
	if err != nil {
		return nil, explain("load programs", err)
	}
	p.closeLater(func() error { coll.Close(); return nil })
	return coll, nil
}

func newCore(opt Options, probeReads bool) (*ebpf.Collection, error) {
	spec, err := bpf.LoadCore()
	if err != nil {
		return nil, fmt.Errorf("read core object: %w", err)
	}
	if err := spec.Variables[bpf.CoreVarProbeReads].Set(probeReads); err != nil {
		return nil, fmt.Errorf("set %s: %w", bpf.CoreVarProbeReads, err)
	}
	if err := setReader(spec); err != nil {
		return nil, err
	}
	size := opt.RingBytes
	if size == 0 {
		size = DefaultRingBytes
	}
	if size&(size-1) != 0 || size < uint32(os.Getpagesize()) {
		return nil, fmt.Errorf("ring of %d bytes: want a power of two of at least %d", size, os.Getpagesize())
	}
	spec.Maps[bpf.CoreMapEvents].MaxEntries = size
	if err := chooseOOM(spec); err != nil {
		return nil, err
	}
	return ebpf.NewCollection(spec)
}

func (p *Probe) loadArgs(opt Options, core *ebpf.Collection) (*ebpf.Collection, error) {
	if opt.NoArgs {
		return nil, errors.New("left out on request")
	}
	spec, err := bpf.LoadArgs()
	if err != nil {
		return nil, fmt.Errorf("read args object: %w", err)
	}
	if err := setReader(spec); err != nil {
		return nil, err
	}
	spec.Maps[bpf.CoreMapEvents].MaxEntries = core.Maps[bpf.CoreMapEvents].MaxEntries()
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		MapReplacements: map[string]*ebpf.Map{
			bpf.CoreMapEvents:    core.Maps[bpf.CoreMapEvents],
			bpf.CoreMapRingState: core.Maps[bpf.CoreMapRingState],
		},
	})
	if err != nil {
		return nil, explain("load argument programs", err)
	}
	p.closeLater(func() error { coll.Close(); return nil })
	return coll, nil
}

// setReader tells the programs in whose pid namespace to count.
func setReader(spec *ebpf.CollectionSpec) error {
	inode, err := ownNamespace()
	if err != nil {
		return err
	}
	shift := uint32(0)
	for size := os.Getpagesize(); size > 1; size >>= 1 {
		shift++
	}
	for name, value := range map[string]uint32{
		bpf.CoreVarReaderNs:  inode,
		bpf.CoreVarPageShift: shift,
	} {
		v, ok := spec.Variables[name]
		if !ok {
			continue // not used by this object
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// chooseOOM keeps the one of the two OOM programs that fits the kernel's tracepoint.
func chooseOOM(spec *ebpf.CollectionSpec) error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoBTF, err)
	}
	byPID, byTask := bpf.CoreProgOnOomPid, bpf.CoreProgOnOom
	var def *btf.Typedef
	if err := kernel.TypeByName("btf_trace_mark_victim", &def); err != nil {
		delete(spec.Programs, byPID)
		delete(spec.Programs, byTask)
		return nil
	}
	if ptr, ok := def.Type.(*btf.Pointer); ok {
		// The first parameter is the tracepoint's private data.
		if proto, ok := ptr.Target.(*btf.FuncProto); ok && len(proto.Params) > 1 {
			if _, ok := proto.Params[1].Type.(*btf.Pointer); ok {
				delete(spec.Programs, byPID)
				return nil
			}
		}
	}
	delete(spec.Programs, byTask)
	return nil
}

func (p *Probe) openRing(core *ebpf.Collection) error {
	events := core.Maps[bpf.CoreMapEvents]
	r, err := newRing(events.FD(), events.MaxEntries())
	if err != nil {
		return err
	}
	p.ring = r
	state := core.Maps[bpf.CoreMapRingState]
	p.mapped, err = unix.Mmap(state.FD(), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map ring state: %w", err)
	}
	p.counters = (*bpf.CoreRingCounters)(unsafe.Pointer(unsafe.SliceData(p.mapped)))
	return nil
}

// attach hooks the programs in. The children's walk goes before the exit, whose
// record follows its own.
func (p *Probe) attach(core, args *ebpf.Collection) error {
	type hook struct {
		coll *ebpf.Collection
		name string
	}
	hooks := []hook{{core, bpf.CoreProgOnFork}}
	if args != nil {
		hooks = append(hooks, hook{args, bpf.ArgsProgOnExecArgs}, hook{args, bpf.ArgsProgOnExitChildren})
	} else {
		hooks = append(hooks, hook{core, bpf.CoreProgOnExec})
	}
	hooks = append(hooks, hook{core, bpf.CoreProgOnExit}, hook{core, bpf.CoreProgOnSignal},
		hook{core, bpf.CoreProgOnOom}, hook{core, bpf.CoreProgOnOomPid})
	for _, h := range hooks {
		prog := h.coll.Programs[h.name]
		if prog == nil {
			continue // an OOM program of another kernel
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if err != nil {
			return explain("attach "+h.name, err)
		}
		p.closeLater(l.Close)
	}
	iter, err := link.AttachIter(link.IterOptions{Program: core.Programs[bpf.CoreProgSnapshot]})
	if err != nil {
		return explain("attach "+bpf.CoreProgSnapshot, err)
	}
	p.snapshot = iter
	p.closeLater(iter.Close)
	return nil
}

// Close detaches and forgets everything that Open made.
func (p *Probe) Close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	p.closers = nil
	if p.mapped != nil {
		errs = append(errs, unix.Munmap(p.mapped))
		p.mapped, p.counters = nil, nil
	}
	if p.ring != nil {
		p.ring.close()
		p.ring = nil
	}
	return errors.Join(errs...)
}

// Read hands at most limit waiting records to fn, in the order in which they
// happened, and returns how many it took from the ring. The event is reused: fn
// keeps what it needs of it by value. A record is given back to the kernel when fn
// has returned. Records that cannot be decoded are counted and left out.
func (p *Probe) Read(limit int, fn func(*event.Event)) int {
	return p.ring.read(limit, func(b []byte) {
		if err := Decode(b, &p.record); err != nil {
			p.decodes++
			return
		}
		fn(&p.record)
	})
}

// Wait blocks until something urgent happened, records have gathered, Wake was
// called, or d has passed.
func (p *Probe) Wait(d time.Duration) error { return p.ring.wait(d) }

// Wake ends a Wait.
func (p *Probe) Wake() { p.ring.wake() }

// Refused is how many records the ring has refused since Open for want of room.
func (p *Probe) Refused() uint64 { return atomic.LoadUint64(&p.counters.Refused) }

// RefusedOf is the share of one kind in Refused.
func (p *Probe) RefusedOf(kind event.Kind) uint64 {
	if int(kind) >= len(p.counters.RefusedOf) {
		return 0
	}
	return atomic.LoadUint64(&p.counters.RefusedOf[kind])
}

// Malformed is how many records could not be decoded: not 0 means that programs and
// reader disagree. It belongs to the reading goroutine.
func (p *Probe) Malformed() uint64 { return p.decodes }

// Pending is how many bytes wait in the ring, and Size how many it holds.
func (p *Probe) Pending() uint64 { return p.ring.used() }

// Size is how many bytes the ring holds.
func (p *Probe) Size() uint64 { return p.ring.size }

// Tasks returns every process of the reader's pid namespace and those below it, as
// the kernel has them now: one read, no procfs. CPU and memory include all threads.
func (p *Probe) Tasks() ([]event.Task, error) {
	f, err := p.snapshot.Open()
	if err != nil {
		return nil, fmt.Errorf("open task iterator: %w", err)
	}
	defer f.Close()
	return readTasks(f)
}

// EachTask calls yield with every process, as Tasks returns them.
func (p *Probe) EachTask(yield func(event.Task)) error {
	tasks, err := p.Tasks()
	if err != nil {
		return err
	}
	for i := range tasks {
		yield(tasks[i])
	}
	return nil
}

// Starts returns the exact start of each process that has one of the pids now, in
// CLOCK_BOOTTIME ns; a pid that no process has is left out.
func (p *Probe) Starts(pids []int32) (map[int32]uint64, error) {
	tasks, err := p.Tasks()
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

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/boottime"
)

// attach loads the programs, makes their ring and hooks them in.
func attach(opt Options) (_ *attachment, err error) {
	raiseMemlock()
	a := &attachment{links: make(map[string]link.Link)}
	defer func() {
		if err != nil {
			_ = a.close()
		}
	}()
	if a.version, err = thisVersion(); err != nil {
		return nil, err
	}
	core, args, err := a.load(opt)
	if err != nil {
		return nil, err
	}
	a.events, a.state = core.Maps[bpf.CoreMapEvents], core.Maps[bpf.CoreMapRingState]
	if err := a.openRing(); err != nil {
		return nil, err
	}
	a.began = boottime.Now()
	if err := a.hook(core, args); err != nil {
		return nil, err
	}
	return a, nil
}

// load loads both objects over one ring, at the same time: the verifier takes its time
// over each. The second one is optional; why it is missing is in argsErr.
func (a *attachment) load(opt Options) (core, args *ebpf.Collection, err error) {
	shared, err := newMaps(opt)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		// The collections have clones of their own.
		for _, m := range shared {
			_ = m.Close()
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		args, a.argsErr = loadArgs(opt, shared)
	}()
	core, err = loadCore(opt, shared)
	<-done
	for _, coll := range []*ebpf.Collection{core, args} {
		if coll != nil {
			a.closeLater(func() error { coll.Close(); return nil })
		}
	}
	return core, args, err
}

// newMaps makes what both objects share: the ring, and the state of it.
func newMaps(opt Options) (map[string]*ebpf.Map, error) {
	size := opt.ringBytes()
	if size&(size-1) != 0 || size < uint32(os.Getpagesize()) {
		return nil, fmt.Errorf("ring of %d bytes: want a power of two of at least %d", size, os.Getpagesize())
	}
	spec, err := bpf.LoadCore()
	if err != nil {
		return nil, fmt.Errorf("read core object: %w", err)
	}
	spec.Maps[bpf.CoreMapEvents].MaxEntries = size
	shared := make(map[string]*ebpf.Map, 2)
	for _, name := range []string{bpf.CoreMapEvents, bpf.CoreMapRingState} {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			for _, made := range shared {
				_ = made.Close()
			}
			return nil, explain("make map "+name, err)
		}
		shared[name] = m
	}
	return shared, nil
}

// loadCore loads the core object: with probe reads for descriptor tables that have
// grown, or where those are refused without.
func loadCore(opt Options, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	coll, err := newCore(shared, !opt.NoArgs)
	if err != nil && !opt.NoArgs {
		coll, err = newCore(shared, false)
	}
	if err != nil {
		return nil, explain("load programs", err)
	}
	return coll, nil
}

func newCore(shared map[string]*ebpf.Map, probeReads bool) (*ebpf.Collection, error) {
	spec, err := bpf.LoadCore()
	if err != nil {
		return nil, fmt.Errorf("read core object: %w", err)
	}
	if err := spec.Variables[bpf.CoreVarProbeReads].Set(probeReads); err != nil {
		return nil, fmt.Errorf("set %s: %w", bpf.CoreVarProbeReads, err)
	}
	if err := choosePrograms(spec); err != nil {
		return nil, err
	}
	return newCollection(spec, shared)
}

func loadArgs(opt Options, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	if opt.NoArgs {
		return nil, errLeftOut
	}
	spec, err := bpf.LoadArgs()
	if err != nil {
		return nil, fmt.Errorf("read args object: %w", err)
	}
	coll, err := newCollection(spec, shared)
	if err != nil {
		return nil, explain("load argument programs", err)
	}
	return coll, nil
}

// newCollection loads an object for this reader over the shared maps.
func newCollection(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	if err := setReader(spec); err != nil {
		return nil, err
	}
	spec.Maps[bpf.CoreMapEvents].MaxEntries = shared[bpf.CoreMapEvents].MaxEntries()
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
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

// choosePrograms keeps those programs that fit the kernel's tracepoints: where there are
// no control groups nobody is moved between them, and nobody is killed for want of memory
// where that cannot be.
func choosePrograms(spec *ebpf.CollectionSpec) error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoBTF, err)
	}
	var move *btf.Typedef
	if err := kernel.TypeByName("btf_trace_cgroup_attach_task", &move); err != nil {
		delete(spec.Programs, bpf.CoreProgOnMove)
	}
	return chooseOOM(spec, kernel)
}

// chooseOOM keeps the one of the two OOM programs that fits the kernel's tracepoint.
func chooseOOM(spec *ebpf.CollectionSpec, kernel *btf.Spec) error {
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

// hook attaches the programs. The children's walk goes before the exit, whose record
// follows its own.
func (a *attachment) hook(core, args *ebpf.Collection) error {
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
		hook{core, bpf.CoreProgOnOom}, hook{core, bpf.CoreProgOnOomPid}, hook{core, bpf.CoreProgOnMove})
	for _, h := range hooks {
		prog := h.coll.Programs[h.name]
		if prog == nil {
			continue // of another kernel
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if err != nil {
			return explain("attach "+h.name, err)
		}
		a.links[h.name] = l
		a.misses.add(h.name, prog)
	}
	for _, name := range []string{keptSnapshot, keptUsage} {
		l, err := link.AttachIter(link.IterOptions{Program: core.Programs[name]})
		if err != nil {
			return explain("attach "+name, err)
		}
		a.links[name] = l
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/abot-trace/abot-trace/bpf"
)

// A Trial is how the load of one program ended.
type Trial struct {
	Program string
	// Optional is set where tracing does without it.
	Optional bool
	// Limited is set where it loads without reads of arbitrary kernel memory only, as
	// under confidentiality lockdown: the stdio of processes with many descriptors
	// stays unknown then.
	Limited bool
	Err     error
}

// Try loads each program by itself, attaches none, and forgets them again. The error
// says why not even that can be tried.
func Try() ([]Trial, error) {
	if err := checkKernel(); err != nil {
		return nil, err
	}
	if err := checkCapabilities(); err != nil {
		return nil, err
	}
	raiseMemlock()
	core, err := trySpec(bpf.LoadCore)
	if err != nil {
		return nil, err
	}
	if err := choosePrograms(core); err != nil {
		return nil, err
	}
	args, err := trySpec(bpf.LoadArgs)
	if err != nil {
		return nil, err
	}
	var trials []Trial
	for _, name := range slices.Sorted(maps.Keys(core.Programs)) {
		t := Trial{Program: name}
		if t.Err = tryProgram(core, name, true); t.Err != nil {
			if err := tryProgram(core, name, false); err == nil {
				t.Limited, t.Err = true, nil
			}
		}
		trials = append(trials, t)
	}
	for _, name := range slices.Sorted(maps.Keys(args.Programs)) {
		trials = append(trials, Trial{Program: name, Optional: true, Err: tryProgram(args, name, true)})
	}
	return trials, nil
}

// trySpec returns an object's programs with the smallest ring there is.
func trySpec(load func() (*ebpf.CollectionSpec, error)) (*ebpf.CollectionSpec, error) {
	spec, err := load()
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	if err := setReader(spec); err != nil {
		return nil, err
	}
	spec.Maps[bpf.CoreMapEvents].MaxEntries = uint32(os.Getpagesize())
	return spec, nil
}

func tryProgram(all *ebpf.CollectionSpec, name string, probeReads bool) error {
	spec := all.Copy()
	maps.DeleteFunc(spec.Programs, func(other string, _ *ebpf.ProgramSpec) bool { return other != name })
	if v, ok := spec.Variables[bpf.CoreVarProbeReads]; ok {
		if err := v.Set(probeReads); err != nil {
			return fmt.Errorf("set %s: %w", bpf.CoreVarProbeReads, err)
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return explain("load "+name, err)
	}
	coll.Close()
	return nil
}

// Lockdown returns the kernel's lockdown mode: "none", "integrity", "confidentiality",
// or "" where the kernel does not say.
func Lockdown() string { return lockdownMode() }

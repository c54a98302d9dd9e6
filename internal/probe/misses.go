// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/boottime"
)

// missesEvery is how often the kernel is asked for misses, in ns.
const missesEvery = uint64(1e9)

// misses counts how often a program was not run because it was running on that processor
// already: on a kernel where tracepoints can be preempted, that is a fork or a death of which
// there is no record. (Recursion misses, from Linux 5.12; bpf_prog_inc_misses_counter in
// kernel/bpf/syscall.c.)
type misses struct {
	programs []*ebpf.Program
	count    atomic.Uint64
	askedAt  uint64 // CLOCK_BOOTTIME, ns
}

// counts reports whether a miss of that program is the loss of a record on which the tree
// rests. Whoever sends himself signals from a timer can make the one for signals miss, which
// must not hold up kills: those are not counted.
func counts(program string) bool {
	return program != bpf.CoreProgOnSignal && program != keptSnapshot && program != keptUsage
}

// add has the program's misses counted.
func (m *misses) add(name string, program *ebpf.Program) {
	if counts(name) {
		m.programs = append(m.programs, program)
	}
}

// addLink does so for a program of which only the link was kept, and returns it to be closed;
// nil where the kernel does not hand it out, which takes CAP_SYS_ADMIN.
func (m *misses) addLink(name string, l link.Link) *ebpf.Program {
	info, err := l.Info()
	if err != nil || !counts(name) {
		return nil
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return nil
	}
	m.add(name, program)
	return program
}

// ask asks the kernel, unless it was asked a moment ago. It belongs to the reading goroutine.
func (m *misses) ask() {
	now := boottime.Now()
	if m.askedAt+missesEvery > now {
		return
	}
	m.askedAt = now
	sum := uint64(0)
	for _, program := range m.programs {
		if stats, err := program.Stats(); err == nil {
			sum += stats.RecursionMisses
		}
	}
	if sum > m.count.Load() {
		m.count.Store(sum)
	}
}

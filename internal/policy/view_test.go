// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// forest is a View made by hand.
type forest struct {
	processes map[event.ID]*Process
	children  map[event.ID][]event.ID
	leaks     map[string]Leak
}

func newForest() *forest {
	return &forest{make(map[event.ID]*Process), make(map[event.ID][]event.ID), make(map[string]Leak)}
}

// id names the process pid of these tests: it started pid seconds after boot.
func id(pid int32) event.ID { return event.ID{PID: pid, Start: at(time.Duration(pid) * time.Second)} }

// at is an instant after boot.
func at(d time.Duration) uint64 { return uint64(d) }

// add puts a running, observed process below its spawner; pid 0 is nobody.
func (f *forest) add(pid, spawner int32, changes ...func(*Process)) *Process {
	p := &Process{ID: id(pid), Observed: true, Comm: "worker", Exe: "/usr/bin/python3.11", UID: 1000, User: "app",
		Cmdline: "python3 -c work", RSS: 10 << 20, MemoryKnown: true, MarksKnown: true, UIDsKnown: true}
	if spawner != 0 {
		p.Spawner = id(spawner)
		f.children[p.Spawner] = append(f.children[p.Spawner], p.ID)
	}
	for _, change := range changes {
		change(p)
	}
	if p.UIDs == (event.UIDs{}) {
		p.UIDs = event.UIDs{Real: p.UID, Effective: p.UID, Saved: p.UID}
	}
	if p.Orphan && p.Observed && p.Leaker == nil {
		p.Leaker = &event.UIDs{} // root's
	}
	f.processes[p.ID] = p
	return p
}

func dead(p *Process) { p.Dead = true }

// orphan makes a process an orphan since an instant.
func orphan(v string, since time.Duration) func(*Process) {
	return func(p *Process) { p.Orphan, p.Verdict, p.Since = true, v, at(since) }
}

func (f *forest) Orphans(yield func(event.ID) bool) {
	for _, p := range f.processes {
		if p.Orphan && !p.Dead && !yield(p.ID) {
			return
		}
	}
}

func (f *forest) Process(id event.ID, p *Process) bool {
	found, ok := f.processes[id]
	if ok {
		*p = *found
	}
	return ok
}

func (f *forest) Children(id event.ID, yield func(event.ID) bool) {
	for _, child := range f.children[id] {
		if !yield(child) {
			return
		}
	}
}

func (f *forest) TreeMemory(id event.ID) (bytes uint64, known bool) {
	seen := make(map[event.ID]bool)
	var sum func(event.ID) bool
	sum = func(id event.ID) bool {
		p := f.processes[id]
		if p == nil || seen[id] {
			return true
		}
		seen[id] = true
		if !p.Dead {
			if !p.MemoryKnown {
				return false
			}
			bytes += p.RSS + p.Swap
		}
		for _, child := range f.children[id] {
			if !sum(child) {
				return false
			}
		}
		return true
	}
	known = sum(id)
	return bytes, known
}

func (f *forest) Leak(id string) (Leak, bool) {
	l, ok := f.leaks[id]
	return l, ok
}

// idleHost is a host of which everything is known and nothing is alarming.
func idleHost() *Host {
	return &Host{MemoryPercent: 40, MemoryAvailableBytes: 6e9, MemoryTotalBytes: 10e9, SwapPercent: 0,
		CPUPercent: 5, CPUs: 2, Load1: 0.1, Load5: 0.1, Load15: 0.1}
}

// fataler is testing.TB or rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func mustEngine(t fataler, rules ...Rule) *Engine {
	t.Helper()
	return mustEngineOf(t, Options{Rules: rules})
}

func mustEngineOf(t fataler, o Options) *Engine {
	t.Helper()
	e, err := NewEngine(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// pids returns the pids of targets in their order.
func pids(targets []Target) []int32 {
	var list []int32
	for _, t := range targets {
		list = append(list, t.ID.PID)
	}
	return list
}

// leakedTree is a dead spawner 10, its leaked child 20 since 100 s, and below that
// 30 and 31, and 40 below 30.
func leakedTree() *forest {
	f := newForest()
	f.add(10, 0, dead, func(p *Process) { p.Comm, p.Cmdline = "gunicorn", "gunicorn: master [web]" })
	f.add(20, 10, orphan(verdict.Leaked, 100*time.Second))
	f.add(30, 20)
	f.add(31, 20)
	f.add(40, 30)
	return f
}

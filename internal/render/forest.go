// SPDX-License-Identifier: Apache-2.0

package render

import "github.com/abot-trace/abot-trace/internal/wire"

// A forest is processes, in the order of a document, tied together by who made them.
type forest struct {
	opt   TreeOptions
	nodes []node
	roots []int32
}

// A node is one process. It names others by their places in the forest.
type node struct {
	id, spawner identity
	ppid        int32
	same        int32 // the one before with the same pid
	first, last int32 // children
	next        int32 // sibling
	parent      int32
	unit        string // where the drawing is by unit

	spawned, running, orphan, leaked, kthread, picked, shown bool
}

type identity struct {
	pid   int32
	start uint64
}

// nobody is the place of no process.
const nobody = -1

func (f *forest) add(p *wire.Process) {
	n := node{id: identity{p.PID, p.StartNS}, ppid: p.PPID, same: nobody, first: nobody, last: nobody, next: nobody, parent: nobody,
		running: p.State == wire.StateRunning, orphan: p.Orphan != nil, kthread: p.Kthread, shown: true}
	n.leaked = n.orphan && p.Orphan.Verdict == wire.VerdictLeaked
	n.picked = f.opt.Wanted == nil || f.opt.Wanted(p)
	if f.opt.ByUnit {
		n.unit = unitOf(p)
	}
	if p.SpawnedBy != nil {
		n.spawned, n.spawner = true, identity{p.SpawnedBy.PID, p.SpawnedBy.StartNS}
	}
	f.nodes = append(f.nodes, n)
}

// link ties each process to its parent in the drawing: its spawner, or its kernel
// parent where that was asked for or is all that is known.
func (f *forest) link() {
	places := make(index, len(f.nodes))
	for i := range f.nodes {
		n := &f.nodes[i]
		n.same = places.last(n.id.pid)
		places[n.id.pid] = int32(i)
	}
	for i := range f.nodes {
		n := &f.nodes[i]
		if f.opt.Kernel && !n.running {
			continue
		}
		parent := int32(nobody)
		if !f.opt.Kernel && n.spawned {
			parent = f.find(places.last(n.spawner.pid), func(p *node) bool { return p.id == n.spawner })
		} else if f.opt.Kernel || n.running && !n.orphan {
			parent = f.find(places.last(n.ppid), func(p *node) bool { return p.running })
		}
		if parent == nobody || parent == int32(i) || f.nodes[parent].unit != n.unit {
			f.roots = append(f.roots, int32(i))
			continue
		}
		n.parent = parent
		f.adopt(&f.nodes[parent], int32(i))
	}
}

// An index has, by pid, the place of the last process with it.
type index map[int32]int32

func (x index) last(pid int32) int32 {
	if i, ok := x[pid]; ok {
		return i
	}
	return nobody
}

// find returns the last process up to place i that has the pid of the one there and
// fits.
func (f *forest) find(i int32, fits func(*node) bool) int32 {
	for i != nobody && !fits(&f.nodes[i]) {
		i = f.nodes[i].same
	}
	return i
}

func (f *forest) adopt(parent *node, child int32) {
	if parent.first == nobody {
		parent.first = child
	} else {
		f.nodes[parent.last].next = child
	}
	parent.last = child
}

// choose marks what the options ask for.
func (f *forest) choose() {
	if !f.opt.Orphans && f.opt.Root == 0 && f.opt.Wanted == nil {
		return
	}
	for i := range f.nodes {
		f.nodes[i].shown = false
	}
	for _, r := range f.roots {
		f.mark(r, false)
	}
}

// mark reports whether anything at or below i is shown.
func (f *forest) mark(i int32, below bool) bool {
	n := &f.nodes[i]
	begins := f.opt.Root != 0 && n.id.pid == f.opt.Root || f.opt.Orphans && n.orphan && n.running && n.picked
	below = below || begins
	if f.opt.Orphans || f.opt.Root != 0 {
		n.shown = begins || below && (f.opt.Orphans || n.picked)
	} else {
		n.shown = n.picked
	}
	for c := n.first; c != nobody; c = f.nodes[c].next {
		n.shown = f.mark(c, below) || n.shown
	}
	return n.shown
}

// visible returns the first process from i on, among siblings, that is shown.
func (f *forest) visible(i int32) int32 {
	for i != nobody && !f.nodes[i].shown {
		i = f.nodes[i].next
	}
	return i
}

// has reports whether any process has the pid.
func (f *forest) has(pid int32) bool {
	for i := range f.nodes {
		if f.nodes[i].id.pid == pid {
			return true
		}
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"strings"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// tree is the process tree as the events tell it: a [policy.View]. Dead processes
// are kept while a descendant of theirs lives.
type tree struct {
	nodes   map[event.ID]*node
	orphans map[event.ID]bool // living ones
	leaks   map[string]*leakState
}

// leakState is a leak with living orphans.
type leakState struct {
	orphans map[event.ID]bool
	told    *wire.Leak // what its last event said, nil before one
}

type node struct {
	process  wire.Process
	spawner  event.ID
	leak     string // that it belongs to as an orphan
	observed bool
	told     bool // an event was about it; else it is known as a spawner only
	dead     bool
	children []event.ID // living, or kept for a living descendant
}

func newTree() *tree {
	return &tree{make(map[event.ID]*node), make(map[event.ID]bool), make(map[string]*leakState)}
}

// apply takes in what an event says of its process, and returns who that is.
func (t *tree) apply(e *wire.Event) event.ID {
	id := idOf(e.Process.PID, e.Process.StartNS)
	n := t.nodes[id]
	if n == nil {
		if len(t.nodes) >= maxProcesses {
			return id
		}
		n = &node{}
		t.nodes[id] = n
	}
	n.update(e.Process)
	if by := e.Process.SpawnedBy; by != nil && n.spawner.IsZero() {
		t.link(id, n, by)
	}
	n.observed = n.process.Lineage == wire.LineageObserved
	// Nobody comes back to life, but a mere name may turn out to be alive.
	n.dead = n.told && n.dead || e.Type == wire.TypeExit || e.Process.State == wire.StateDead
	n.told = true
	if l := leaker(n); l != nil {
		t.learnLeaker(l)
	}
	if n.process.Orphan != nil && !n.dead {
		t.orphans[id] = true
		t.joinLeak(id, n)
	} else {
		delete(t.orphans, id)
		t.leaveLeak(id, n)
	}
	return id
}

// leakOf names the leak that an orphan belongs to: by its leaker, where the event is older than
// leaks; empty where it belongs to none.
func leakOf(o *wire.Orphan) string {
	switch {
	case o == nil || o.Leaker == nil || o.Verdict == wire.VerdictDeliberate:
		return ""
	case o.Leak != "":
		return o.Leak
	}
	return fmt.Sprintf("%d@%d", o.Leaker.PID, o.Leaker.StartNS)
}

func (t *tree) joinLeak(id event.ID, n *node) {
	name := leakOf(n.process.Orphan)
	if name == n.leak {
		return
	}
	t.leaveLeak(id, n)
	if name == "" {
		return
	}
	l := t.leaks[name]
	if l == nil {
		l = &leakState{orphans: make(map[event.ID]bool)}
		t.leaks[name] = l
	}
	l.orphans[id], n.leak = true, name
}

func (t *tree) leaveLeak(id event.ID, n *node) {
	l := t.leaks[n.leak]
	if l == nil {
		return
	}
	if delete(l.orphans, id); len(l.orphans) == 0 {
		delete(t.leaks, n.leak)
	}
	n.leak = ""
}

// applyLeak takes in what an event says of a leak, and returns its living orphans.
func (t *tree) applyLeak(w *wire.Leak) (orphans []event.ID) {
	l := t.leaks[w.ID]
	if l == nil {
		return nil
	}
	l.told = w
	for id := range l.orphans {
		orphans = append(orphans, id)
	}
	return orphans
}

// Leak implements policy.View: by what the leak's last event said, else by its orphans.
func (t *tree) Leak(id string) (policy.Leak, bool) {
	l := t.leaks[id]
	if l == nil {
		return policy.Leak{}, false
	}
	out := policy.Leak{Processes: len(l.orphans)}
	opened, pending := uint64(0), false
	for id := range l.orphans {
		o := t.nodes[id].process.Orphan
		if pending = pending || o.Provisional; opened == 0 || o.SinceNS < opened {
			opened = o.SinceNS
		}
		if bytes, known := t.TreeMemory(id); known && o.Direct {
			out.Bytes, out.BytesKnown = out.Bytes+bytes, true
		}
	}
	if pending {
		out.SettlesAt = opened + uint64(policy.LeakSettles)
	}
	if w := l.told; w != nil {
		out.Processes = w.Processes.Now
		if w.RSSBytes != nil {
			out.Bytes, out.BytesKnown = *w.RSSBytes, true
			if w.SwapBytes != nil {
				out.Bytes += *w.SwapBytes
			}
		}
	}
	return out, true
}

// link hangs n below its spawner, which is taken for dead until an event is about it.
// That makes no orphan: only an orphaning does.
func (t *tree) link(id event.ID, n *node, by *wire.Ref) {
	spawner := idOf(by.PID, by.StartNS)
	// Lineage goes back in time: a stream that says otherwise would make a loop.
	if spawner.Start > id.Start || spawner.Start == id.Start && spawner.PID >= id.PID {
		return
	}
	parent := t.nodes[spawner]
	if parent == nil {
		if len(t.nodes) >= maxProcesses {
			return
		}
		parent = &node{process: wire.Process{PID: by.PID, StartNS: by.StartNS, Comm: by.Comm}, dead: true}
		t.nodes[spawner] = parent
	}
	n.spawner = spawner
	parent.children = append(parent.children, id)
}

// learnLeaker keeps the command line that only the orphan's own event tells.
func (t *tree) learnLeaker(l *wire.Leaker) {
	n := t.nodes[idOf(l.PID, l.StartNS)]
	if n == nil {
		return
	}
	if l.Comm != "" {
		n.process.Comm = l.Comm
	}
	if len(n.process.Cmdline) == 0 {
		n.process.Cmdline = l.Cmdline
	}
}

func leaker(n *node) *wire.Leaker {
	if n.process.Orphan == nil {
		return nil
	}
	return n.process.Orphan.Leaker
}

// update takes over what an event says; what it leaves out stays as it was known.
func (n *node) update(p *wire.Process) {
	old := n.process
	n.process = *p
	merge(&n.process.Comm, old.Comm)
	merge(&n.process.Exe, old.Exe)
	merge(&n.process.User, old.User)
	merge(&n.process.Unit, old.Unit)
	merge(&n.process.Cgroup, old.Cgroup)
	merge(&n.process.Container, old.Container)
	merge(&n.process.ContainerName, old.ContainerName)
	merge(&n.process.ContainerImage, old.ContainerImage)
	if p.Pod == nil {
		n.process.Pod = old.Pod
	}
	merge(&n.process.Lineage, old.Lineage)
	if p.Cmdline == nil {
		n.process.Cmdline = old.Cmdline
	}
	if p.UID == nil {
		n.process.UID = old.UID
	}
	if p.RSSBytes == nil {
		n.process.RSSBytes, n.process.SwapBytes = old.RSSBytes, old.SwapBytes
	}
	if p.CPUPercent == nil {
		n.process.CPUPercent = old.CPUPercent
	}
	if p.Orphan == nil {
		n.process.Orphan = old.Orphan
	}
}

func merge(field *string, old string) {
	if *field == "" {
		*field = old
	}
}

// forget drops a dead process that no descendant needs any more, and then its
// ancestors that were kept for it alone. It returns who was dropped.
func (t *tree) forget(id event.ID) (gone []event.ID) {
	for {
		n := t.nodes[id]
		if n == nil || !n.dead || len(n.children) > 0 {
			return gone
		}
		t.leaveLeak(id, n)
		delete(t.nodes, id)
		delete(t.orphans, id)
		gone = append(gone, id)
		parent := t.nodes[n.spawner]
		if parent == nil {
			return gone
		}
		for i, child := range parent.children {
			if child == id {
				last := len(parent.children) - 1
				parent.children[i] = parent.children[last]
				parent.children = parent.children[:last]
				break
			}
		}
		id = n.spawner
	}
}

// wire returns what is known of id.
func (t *tree) wire(id event.ID) wire.Process {
	if n := t.nodes[id]; n != nil {
		return n.process
	}
	return wire.Process{PID: id.PID, StartNS: id.Start}
}

// Orphans implements policy.View.
func (t *tree) Orphans(yield func(event.ID) bool) {
	for id := range t.orphans {
		if !yield(id) {
			return
		}
	}
}

// Process implements policy.View.
func (t *tree) Process(id event.ID, p *policy.Process) bool {
	n := t.nodes[id]
	if n == nil {
		return false
	}
	w := &n.process
	*p = policy.Process{
		ID: id, Spawner: n.spawner, Observed: n.observed, Dead: n.dead,
		Comm: w.Comm, Exe: w.Exe, Cmdline: strings.Join(w.Cmdline, " "), User: w.User,
		Unit: w.Unit, Cgroup: w.Cgroup, Container: containerOf(w), Threads: w.Threads, Kthread: w.Kthread,
	}
	// Events tell neither marks nor the other user ids: what a rule would have ended is told
	// as if no mark had spared it, and nobody had had more than one id.
	p.MarksKnown = true
	if w.UID != nil {
		p.UID, p.UIDs, p.UIDsKnown = *w.UID, idsOf(*w.UID), true
	}
	if w.RSSBytes != nil {
		p.RSS, p.MemoryKnown = *w.RSSBytes, true
	}
	if w.SwapBytes != nil {
		p.Swap = *w.SwapBytes
	}
	if w.CPUPercent != nil {
		p.CPUPercent, p.CPUKnown = *w.CPUPercent, true
	}
	if w.Orphan != nil {
		p.Orphan, p.Verdict, p.Since = true, w.Orphan.Verdict, w.Orphan.SinceNS
		p.Leak = n.leak
		p.Leaker = t.leakerIDs(w.Orphan.Leaker)
		p.Abandoned = w.Orphan.Stdio == wire.StdioAbandoned
		if l := w.Orphan.Leaker; l != nil {
			p.LeakerCmdline = strings.Join(l.Cmdline, " ")
		}
		if w.Orphan.Provisional {
			p.Verdict = "" // no rule acts on it
		}
	}
	return true
}

// containerOf is the container of a process. Of one whose name was told, root had made it.
func containerOf(w *wire.Process) policy.Container {
	c := policy.Container{ContainerID: w.Container, ContainerName: w.ContainerName, Image: w.ContainerImage,
		RootsContainer: w.ContainerName != ""}
	if w.Pod != nil && w.Pod.Name != "" {
		c.Pod = w.Pod.FullName()
	}
	return c
}

// leakerIDs are the user ids of a leaker: root's where they were not told.
func (t *tree) leakerIDs(l *wire.Leaker) *event.UIDs {
	var ids event.UIDs
	if l != nil {
		if n := t.nodes[idOf(l.PID, l.StartNS)]; n != nil && n.process.UID != nil {
			ids = idsOf(*n.process.UID)
		}
	}
	return &ids
}

func idsOf(uid uint32) event.UIDs { return event.UIDs{Real: uid, Effective: uid, Saved: uid} }

// Children implements policy.View.
func (t *tree) Children(id event.ID, yield func(event.ID) bool) {
	n := t.nodes[id]
	if n == nil {
		return
	}
	for _, child := range n.children {
		if !yield(child) {
			return
		}
	}
}

// TreeMemory implements policy.View: the latest figure that an orphan's event gave
// for its tree, else the sum over its processes.
func (t *tree) TreeMemory(id event.ID) (bytes uint64, known bool) {
	n := t.nodes[id]
	if n == nil {
		return 0, false
	}
	if o := n.process.Orphan; o != nil && o.Tree != nil && o.Tree.RSSBytes != nil {
		bytes = *o.Tree.RSSBytes
		if o.Tree.SwapBytes != nil {
			bytes += *o.Tree.SwapBytes
		}
		return bytes, true
	}
	stack := []event.ID{id}
	for len(stack) > 0 {
		n := t.nodes[stack[len(stack)-1]]
		stack = stack[:len(stack)-1]
		if n == nil {
			continue
		}
		stack = append(stack, n.children...)
		if n.dead {
			continue
		}
		if n.process.RSSBytes == nil {
			return 0, false
		}
		bytes += *n.process.RSSBytes
		if n.process.SwapBytes != nil {
			bytes += *n.process.SwapBytes
		}
	}
	return bytes, true
}

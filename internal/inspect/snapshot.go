// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A TreeSnapshot is the tree at one instant, for those who draw it.
type TreeSnapshot struct {
	*snapshot
	drawings *converter
}

// TreeSnapshot copies every living process and the dead ones that their lineage needs.
func (n *Inspector) TreeSnapshot(ctx context.Context) (*TreeSnapshot, error) {
	snapshot, err := n.takeSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &TreeSnapshot{snapshot, &n.drawings}, nil
}

// Time is when the tree was copied.
func (s *TreeSnapshot) Time() time.Time { return s.time }

// Complete reports whether every lineage was observed.
func (s *TreeSnapshot) Complete() bool { return s.complete }

// Len returns the number of processes.
func (s *TreeSnapshot) Len() int { return len(s.order) }

// Each calls fn with every process, the oldest first: with what a drawing shows of it but
// for the memory, as it reads in JSON. What fn gets is good until it returns. It is to be
// brief: others wait.
func (s *TreeSnapshot) Each(fn func(*wire.Process)) {
	defer s.drawings.lock()()
	var scratch describe.Scratch
	for _, entry := range s.order {
		fn(s.drawings.Fill(&scratch, &s.all[entry.at]))
	}
}

// EachMemory calls fn with what the processes hold, in bytes, by their places in the order
// of Each. It waits for the kernel, which may not tell of all.
func (s *TreeSnapshot) EachMemory(fn func(i int, rss, swap uint64)) error {
	usage, err := s.usage()
	if err != nil {
		return err
	}
	for i, entry := range s.order {
		if s.all[entry.at].Dead {
			continue
		}
		if u, ok := usage(entry.id); ok {
			fn(i, u.RSS, u.Swap)
		}
	}
	return nil
}

// A snapshot is the tree at one instant.
type snapshot struct {
	time     time.Time
	all      []tracker.Process
	order    []snapshotEntry // the oldest first
	complete bool            // each lineage was observed
	// usage waits for what the kernel says that every process uses.
	usage func() (func(event.ID) (describe.Use, bool), error)
}

// A snapshotEntry is where in a snapshot a process is, with what it is ordered by:
// processes are large to move.
type snapshotEntry struct {
	id event.ID
	at int32
}

// takeSnapshot copies the tree. The kernel is asked meanwhile, which takes longer.
func (n *Inspector) takeSnapshot(ctx context.Context) (*snapshot, error) {
	s := &snapshot{usage: sync.OnceValues(n.usage)}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = s.usage()
	}()
	living := n.loop.Living()
	room := make([]tracker.Process, 0, living+living/8) // not on the loop
	if err := n.loop.Do(ctx, func(tree *tracker.Tree) { s.all = copyAll(tree, room) }); err != nil {
		<-asked
		return nil, err
	}
	s.time = n.now()
	s.arrange()
	return s, nil
}

// arrange looks through what was copied.
func (s *snapshot) arrange() {
	s.complete = true
	s.order = make([]snapshotEntry, len(s.all))
	for i := range s.all {
		s.order[i] = snapshotEntry{s.all[i].ID, int32(i)}
		s.complete = s.complete && s.all[i].Lineage == tracker.LineageObserved
	}
	slices.SortFunc(s.order, func(a, b snapshotEntry) int { return byAge(a.id, b.id) })
}

// lineage is where in the lineage each process is.
func (s *snapshot) lineage() []describe.Node {
	nodes := make([]describe.Node, 0, len(s.all))
	for i := range s.all {
		nodes = append(nodes, describe.Node{ID: s.all[i].ID, Spawner: s.all[i].Spawner, Dead: s.all[i].Dead})
	}
	return nodes
}

// byAge orders processes, the oldest first.
func byAge(a, b event.ID) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
}

// copyAll appends copies of the tree's processes, which outlive the call on the loop.
func copyAll(tree *tracker.Tree, all []tracker.Process) []tracker.Process {
	first := len(all)
	all = tree.AppendAll(all)
	for i := first; i < len(all); i++ {
		if o := all[i].Orphan; o != nil {
			c := *o
			all[i].Orphan = &c
		}
	}
	return all
}

func copyOf(p tracker.Process) tracker.Process {
	if p.Orphan != nil {
		o := *p.Orphan
		p.Orphan = &o
	}
	return p
}

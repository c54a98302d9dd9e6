// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// TestDeepChainIsObserved wants a living chain of 10,000 to be one decision, with everybody in
// it, and the memory of each process's tree to be added up once for all of them.
func TestDeepChainIsObserved(t *testing.T) {
	const depth = 10000
	w := newWorld(t, "rules:\n  - {name: chain, match: {verdict: [leaked, unknown, deliberate]}, orphaned_for: 0s}\n")
	ids := w.leakChain(depth)
	w.on(func(tree *tracker.Tree) {
		if n := tree.Orphans(); n != depth {
			t.Errorf("%d orphans, want %d", n, depth)
		}
		v := w.bind()
		v.pass = passOf(t, ids)
		for _, id := range ids {
			v.TreeMemory(id)
		}
		if len(v.sums) != depth {
			t.Errorf("%d processes were added up, want %d", len(v.sums), depth)
		}
		for i, id := range ids {
			if bytes, known := v.TreeMemory(id); !known || bytes != uint64(depth-i) {
				t.Fatalf("the tree of number %d holds %d (%v), want %d", i, bytes, known, depth-i)
			}
		}
		v.pass = nil
		if got := w.engine.Explain(v, &w.host, ids[depth-1], 0); len(got) != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// passOf is a sample in which each process holds one byte.
func passOf(t *testing.T, ids []event.ID) *sample.Pass {
	t.Helper()
	pass, err := sample.NewSampler(sample.TaskFunc(func(yield func(event.Task)) error {
		for _, id := range ids {
			yield(event.Task{ID: id, RSS: 1})
		}
		return nil
	}), nil).Pass()
	if err != nil {
		t.Fatal(err)
	}
	return pass
}

// TestOurDescendants wants those that descend from the program itself to be known as such,
// and nobody else.
func TestOurDescendants(t *testing.T) {
	self := event.ID{PID: 40, Start: 40}
	child, grandchild, other := event.ID{PID: 41, Start: 41}, event.ID{PID: 42, Start: 42}, event.ID{PID: 43, Start: 43}
	tree := tracker.New(0)
	for _, e := range []struct{ id, by event.ID }{{self, event.ID{PID: 1, Start: 1}}, {child, self}, {grandchild, child},
		{other, event.ID{PID: 1, Start: 1}}} {
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: e.id, Fork: event.Fork{Spawner: e.by, Caller: e.by}})
	}
	tree.Apply(&event.Event{Kind: event.KindExit, Subject: child})
	v := &view{tree: tree, self: ownLine{{PID: self.PID}, {PID: 7}, {PID: 1}}}
	for id, want := range map[event.ID]policy.Relation{self: policy.Ourselves, grandchild: policy.OurDescendant,
		other: policy.NotOurs, {PID: 1, Start: 1}: policy.OurAncestor,
		// Who has the pid of a dead ancestor now, or ours.
		{PID: 7, Start: 1 << 40}: policy.NotOurs, {PID: 40, Start: 1 << 40}: policy.NotOurs} {
		if got := v.relation(id); got != want {
			t.Errorf("%v: %v, want %v", id, got, want)
		}
	}
}

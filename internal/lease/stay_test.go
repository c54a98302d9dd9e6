// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"slices"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// TestGiveBack wants those who stay, and what descends from them, free of the lease, and
// all others covered; also after a restart.
func TestGiveBack(t *testing.T) {
	tree := tracker.New(0)
	table := NewTable(tree)
	fork(tree, 0, 1, false) // the holder
	fork(tree, 1, 2, false) // stays
	fork(tree, 2, 3, false) // below it
	fork(tree, 1, 4, false) // does not
	fork(tree, 0, 5, false) // is a stranger
	if _, ok := table.GiveBack(proc(1), nil); ok {
		t.Error("given back without a lease")
	}
	table.Hold(Lease{Holder: proc(1)})
	taken, ok := table.GiveBack(proc(1), []event.ID{proc(2), proc(5), {PID: proc(4).PID, Start: 1}})
	if !ok || !slices.Equal(taken, []event.ID{proc(2)}) {
		t.Errorf("got %v, %v, want the one that lives and descends from the holder", taken, ok)
	}
	saved, err := table.Save()
	if err != nil {
		t.Fatal(err)
	}
	exit(tree, table, 1)
	check := func(table *Table) {
		t.Helper()
		for n, want := range map[int]bool{2: false, 3: false, 4: true} {
			if _, got := table.Ended(proc(n)); got != want {
				t.Errorf("process %d: covered %v, want %v", n, got, want)
			}
		}
	}
	check(table)
	s, err := Decode(saved)
	if err != nil {
		t.Fatal(err)
	}
	restored := NewTable(tree)
	restored.Restore(s)
	p, _ := tree.Get(proc(1))
	restored.ObserveExit(&p)
	check(restored)
	table.Hold(Lease{Holder: proc(1)})
	if table.Stays(proc(1), proc(2)) {
		t.Error("a new lease begins with those who stayed under the old one")
	}
}

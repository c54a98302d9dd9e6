// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestTotals sums a tree with a dead process in it, one that nobody has measured, and
// one whose share of CPU is not known.
func TestTotals(t *testing.T) {
	id := func(pid int32) event.ID { return event.ID{PID: pid, Start: uint64(pid)} }
	half := 50.0
	uses := map[event.ID]Use{
		id(2): {RSS: 1, Swap: 10, CPUPercent: &half},
		id(3): {RSS: 1000}, // dead
		id(4): {RSS: 2, Swap: 20},
		id(5): {RSS: 4, CPUPercent: &half},
	}
	f := NewTotals([]Node{
		{ID: id(5), Spawner: id(3)},
		{ID: id(2), Spawner: id(1)},
		{ID: id(3), Spawner: id(2), Dead: true},
		{ID: id(4), Spawner: id(2)},
		{ID: id(6), Spawner: id(4)},
		{ID: id(7), Spawner: id(1)},
	}, func(id event.ID) (Use, bool) {
		u, ok := uses[id]
		return u, ok
	})
	ptr := func(n uint64) *uint64 { return &n }
	whole := 100.0
	for _, tt := range []struct {
		name string
		pid  int32
		want wire.Usage
	}{
		{"all below", 2, wire.Usage{Processes: 4, RSSBytes: ptr(7), SwapBytes: ptr(30), CPUPercent: &whole}},
		{"again", 2, wire.Usage{Processes: 4, RSSBytes: ptr(7), SwapBytes: ptr(30), CPUPercent: &whole}},
		{"below a dead one", 3, wire.Usage{Processes: 1, RSSBytes: ptr(4), SwapBytes: ptr(0), CPUPercent: &half}},
		{"one unknown", 4, wire.Usage{Processes: 2, RSSBytes: ptr(2), SwapBytes: ptr(20)}},
		{"nothing known", 7, wire.Usage{Processes: 1}},
		{"not there", 8, wire.Usage{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(&tt.want, f.Sum(id(tt.pid))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

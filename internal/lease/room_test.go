// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// TestRoom wants a user's leases bounded, and nobody else's by them.
func TestRoom(t *testing.T) {
	table := NewTable(tracker.New(0))
	of := func(pid int32, uid uint32) Lease { return Lease{Holder: event.ID{PID: pid, Start: 1}, UID: uid} }
	for pid := int32(2); pid < MaxPerUser+2; pid++ {
		l := of(pid, 1000)
		if !table.Room(l) {
			t.Fatalf("no room for lease %d", pid-1)
		}
		table.Hold(l)
	}
	if table.Room(of(5000, 1000)) {
		t.Error("room for one more")
	}
	if !table.Room(of(2, 1000)) || !table.Room(of(5000, 1001)) || !table.Room(of(5000, 0)) {
		t.Error("no room for one again, for another user, or for root")
	}
}

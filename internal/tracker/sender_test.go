// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// TestSenderByHostPID wants a sender found that the record numbers for the host only,
// and not mistaken for one that had the number before.
func TestSenderByHostPID(t *testing.T) {
	tree := New(0)
	fork := func(pid int32, start uint64, host int32) event.ID {
		id := event.ID{PID: pid, Start: start}
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: id, HostPID: host, Time: start})
		return id
	}
	kill := func(target event.ID, ordinal uint32, sender int32) event.ID {
		t.Helper()
		for _, c := range tree.Apply(&event.Event{Kind: event.KindSignal, Subject: target, Ordinal: ordinal,
			Signal: event.Signal{Signal: unix.SIGKILL, SenderHost: sender}}) {
			if c.Kind == Signaled {
				return c.Sent.Sender
			}
		}
		t.Fatal("no signal reported")
		return event.ID{}
	}
	target, killer := fork(10, 100, 1010), fork(11, 101, 1011)
	for ordinal := range uint32(2) { // the second by what is remembered
		if got := kill(target, ordinal+1, 1011); got != killer {
			t.Errorf("sender %v, want %v", got, killer)
		}
	}
	tree.Apply(&event.Event{Kind: event.KindExit, Subject: killer, HostPID: 1011, Time: 102})
	if got := kill(target, 3, 1011); !got.IsZero() {
		t.Errorf("sender %v after its death", got)
	}
	next := fork(12, 103, 1011)
	if got := kill(target, 4, 1011); got != next {
		t.Errorf("sender %v, want %v", got, next)
	}
	if got := kill(target, 5, 2000); !got.IsZero() {
		t.Errorf("sender %v for a stranger", got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestDecidedStatus: a status counts all decisions and lists some, those that rules feel first.
func TestDecidedStatus(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	book, until := trust.New(), now.Add(time.Hour)
	decide := func(n int, kind, rule string) {
		_, err := book.Decide(wire.Trust{Kind: kind, Rule: rule, Fingerprint: fmt.Sprintf("F%012d", n), Reason: "r", Since: now, Until: &until})
		if err != nil {
			t.Fatal(err)
		}
	}
	if s := decidedStatus(book.All(now)); s.List == nil || len(s.List) != 0 {
		t.Errorf("of nothing: %+v", s)
	}
	for n := range wire.MaxStatusDecided {
		decide(n, wire.TrustAck, "")
	}
	decide(7, wire.TrustIgnore, "")
	decide(9, wire.TrustSuspend, "workers")
	s := decidedStatus(book.All(now))
	if s.Acked != wire.MaxStatusDecided || s.Ignored != 1 || s.Suspended != 1 || len(s.List) != wire.MaxStatusDecided {
		t.Errorf("%d acked, %d ignored, %d suspended, %d listed", s.Acked, s.Ignored, s.Suspended, len(s.List))
	}
	if s.List[0].Kind != wire.TrustSuspend || s.List[1].Kind != wire.TrustIgnore || s.List[2].Kind != wire.TrustAck {
		t.Errorf("%s, %s, %s", s.List[0].Kind, s.List[1].Kind, s.List[2].Kind)
	}
	if s := decidedStatus(book.All(until)); s.Acked != 0 || s.Ignored != 1 {
		t.Errorf("when the acks are over: %+v", s)
	}
}

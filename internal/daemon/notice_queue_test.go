// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
)

// TestNoticeQueue wants everything delivered in order: not before it is due, then at once, and at
// once where too much waits.
func TestNoticeQueue(t *testing.T) {
	var delivered []int
	var tell noticeQueue
	say := func(n int) { tell.add(func() { delivered = append(delivered, n) }) }
	if at := tell.deliverDue(); at != 0 {
		t.Fatalf("due at %d with nothing to tell", at)
	}
	before := boottime.Now()
	say(0)
	say(1)
	if tell.due < before+uint64(noticeDelay) {
		t.Fatalf("due %d ns after it happened", tell.due-before)
	}
	tell.due = boottime.Now() + uint64(time.Hour)
	if at := tell.deliverDue(); at != tell.due || len(delivered) != 0 {
		t.Fatalf("delivered %v, due at %d instead of %d", delivered, at, tell.due)
	}
	tell.due = boottime.Now()
	if at := tell.deliverDue(); at != 0 || !slices.Equal(delivered, []int{0, 1}) {
		t.Fatalf("delivered %v, then due at %d", delivered, at)
	}
	for n := range maxNotices {
		say(n)
	}
	if len(delivered) != 2+maxNotices || delivered[len(delivered)-1] != maxNotices-1 || tell.deliverDue() != 0 {
		t.Errorf("delivered %d", len(delivered))
	}
}

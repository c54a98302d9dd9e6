// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/trace"
)

// TestTeller wants everything told in order: not before it is due, then at once, and at
// once where too much waits.
func TestTeller(t *testing.T) {
	var told []int
	var tell teller
	say := func(n int) { tell.later(func() { told = append(told, n) }) }
	if at := tell.look(); at != 0 {
		t.Fatalf("due at %d with nothing to tell", at)
	}
	before := trace.BootNow()
	say(0)
	say(1)
	if tell.due < before+uint64(tellPause) {
		t.Fatalf("due %d ns after it happened", tell.due-before)
	}
	tell.due = trace.BootNow() + uint64(time.Hour)
	if at := tell.look(); at != tell.due || len(told) != 0 {
		t.Fatalf("told %v, due at %d instead of %d", told, at, tell.due)
	}
	tell.due = trace.BootNow()
	if at := tell.look(); at != 0 || !slices.Equal(told, []int{0, 1}) {
		t.Fatalf("told %v, then due at %d", told, at)
	}
	for n := range tellMost {
		say(n)
	}
	if len(told) != 2+tellMost || told[len(told)-1] != tellMost-1 || tell.look() != 0 {
		t.Errorf("told %d", len(told))
	}
}

// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"testing"
	"time"
)

// TestCanaryAge wants the age of the last canary to be one of the monotonic clock: what
// feeds the watchdog must not change when somebody sets the wall clock.
func TestCanaryAge(t *testing.T) {
	c := New()
	if seen := c.LastSeen(); !seen.IsZero() {
		t.Errorf("never seen, yet at %v", seen)
	}
	seen := time.Now().Add(-5 * time.Second)
	c.seen.Store(&seen)
	if age := time.Since(c.LastSeen()); age < 5*time.Second || age > time.Minute {
		t.Errorf("age %v, want 5 s", age)
	}
}

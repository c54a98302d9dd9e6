// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"testing"
	"time"
)

// TestWatchIsClosed wants a watch that may be closed right after its wait, also where that has
// ended with its context.
func TestWatchIsClosed(t *testing.T) {
	for range 200 {
		w := new(deathWatch)
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.wait(ctx, time.Now()); err != nil {
			t.Error(err)
		}
		w.close()
	}
}

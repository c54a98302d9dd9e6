// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// TestBlockedReadsAreBounded wants no more reads begun than may block for ever, and new
// ones once they end.
func TestBlockedReadsAreBounded(t *testing.T) {
	var blocked atomic.Int32
	over, cancel := context.WithCancel(t.Context())
	cancel()
	release := make(chan struct{})
	read := func() (int, error) {
		<-release
		return 1, nil
	}
	for range maxAsync {
		if _, err := within(over, &blocked, read); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if _, err := within(t.Context(), &blocked, read); !errors.Is(err, errBusy) {
		t.Errorf("one too many: %v", err)
	}
	close(release)
	for blocked.Load() > 0 {
		if _, err := within(t.Context(), &blocked, read); err != nil && !errors.Is(err, errBusy) {
			t.Fatal(err)
		}
	}
}

// A question that blocks for ever costs its goroutine, and no more.
func TestWithinGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	forever := make(chan struct{})
	defer close(forever)
	if _, err := within(ctx, new(atomic.Int32), func() (int, error) { <-forever; return 1, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if n, err := within(t.Context(), new(atomic.Int32), func() (int, error) { return 1, nil }); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

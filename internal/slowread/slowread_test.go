// SPDX-License-Identifier: Apache-2.0

package slowread

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestOnOnesOwnAccount wants one user's processes that never answer to be asked no more, and
// everybody else's to be read as ever.
func TestOnOnesOwnAccount(t *testing.T) {
	var r Reads
	over, cancel := context.WithCancel(t.Context())
	cancel()
	release := make(chan struct{})
	stuck := func() (int, error) { <-release; return 0, nil }
	busy := 0
	for range 100 {
		if _, err := Do(over, &r, 1000, stuck); errors.Is(err, ErrBusy) {
			busy++
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if busy != 100-PerUser || r.Stuck() != PerUser {
		t.Errorf("%d reads were refused, %d are stuck", busy, r.Stuck())
	}
	for uid := range uint32(3) {
		for range 100 {
			if n, err := Do(t.Context(), &r, uid, func() (int, error) { return 7, nil }); n != 7 || err != nil {
				t.Fatalf("user %d: %d, %v", uid, n, err)
			}
		}
	}
	close(release)
	for r.Stuck() > 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := Do(t.Context(), &r, 1000, func() (int, error) { return 7, nil }); err != nil {
		t.Errorf("when they have answered after all: %v", err)
	}
	if r.all != 0 || r.others != 0 || len(r.users) != 0 {
		t.Errorf("%d, %d, %v are counted", r.all, r.others, r.users)
	}
}

// TestManyUsersStuck wants root's processes read whoever else's do not answer, and no more
// threads taken than there is room for.
func TestManyUsersStuck(t *testing.T) {
	var r Reads
	over, cancel := context.WithCancel(t.Context())
	cancel()
	release := make(chan struct{})
	defer close(release)
	for uid := range uint32(100) {
		for range PerUser {
			_, _ = Do(over, &r, 1000+uid, func() (int, error) { <-release; return 0, nil })
		}
	}
	if r.Stuck() != Others {
		t.Errorf("%d are stuck, want %d", r.Stuck(), Others)
	}
	if n, err := Do(t.Context(), &r, 0, func() (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("root: %d, %v", n, err)
	}
}

// TestWaitsForItsTurn wants more of a user's than are read at once to be read one after the
// other.
func TestWaitsForItsTurn(t *testing.T) {
	var r Reads
	results := make(chan error, 64)
	for range 64 {
		go func() {
			_, err := Do(t.Context(), &r, 1000, func() (int, error) { time.Sleep(time.Millisecond); return 0, nil })
			results <- err
		}()
	}
	for range 64 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

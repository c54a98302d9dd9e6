// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

// newTestLeaseFile runs a file whose writes are those of save, until the test ends.
func newTestLeaseFile(t *testing.T, save func([]byte) error) *leaseFile {
	f := &leaseFile{snapshot: func(context.Context) ([]byte, error) { return []byte("leases"), nil }, save: save,
		requests: make(chan chan<- error, maxLeaseWrites)}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { f.run(ctx) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return f
}

func TestPersist(t *testing.T) {
	full := errors.New("no space left on device")
	stuck := make(chan struct{})
	for _, tt := range []struct {
		name string
		save func([]byte) error
		want error
	}{
		{"written", func(b []byte) error {
			if string(b) != "leases" {
				return errors.New(string(b))
			}
			return nil
		}, nil},
		{"refused", func([]byte) error { return full }, full},
		{"stuck", func([]byte) error { <-stuck; return nil }, errSaveSlow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newTestLeaseFile(t, tt.save)
			if err := f.persist(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if tt.name != "stuck" {
				return
			}
			// Nobody waits longer because others do, however many they are.
			var all sync.WaitGroup
			for range 2 * maxLeaseWrites {
				all.Go(func() {
					if err := f.persist(t.Context()); !errors.Is(err, errSaveSlow) && !errors.Is(err, errSaveBusy) {
						t.Errorf("got %v", err)
					}
				})
			}
			all.Wait()
			close(stuck)
		})
	}
	var none *leaseFile
	if err := none.persist(t.Context()); err == nil || !strings.Contains(err.Error(), "saves nothing") {
		t.Errorf("without a state: %v", err)
	}
}

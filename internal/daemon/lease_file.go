// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// leaseTimeout is how long who takes a lease waits until it is written down.
const leaseTimeout = 100 * time.Millisecond

// maxLeaseWrites is how many wait for it at once.
const maxLeaseWrites = 256

var (
	errNotSaved  = errors.New("the daemon saves nothing")
	errSaveBusy  = errors.New("too many leases are being taken")
	errSaveSlow  = errors.New("the state directory took longer than 100ms")
	errSaveEnded = errors.New("the daemon is stopping")
)

// A leaseFile writes leases down when they are taken and given back: the state is saved once
// a minute, and a daemon can be killed within it. One write serves all who wait.
type leaseFile struct {
	snapshot func(context.Context) ([]byte, error) // the table as it is
	save     func([]byte) error
	requests chan chan<- error
}

func newLeaseFile(t *trace.Tracer, save func([]byte) error) *leaseFile {
	snapshot := func(ctx context.Context) (b []byte, err error) {
		if doErr := t.Do(ctx, func(*tracker.Tree) { b, err = t.Leases().Save() }); doErr != nil {
			return nil, doErr
		}
		return b, err
	}
	return &leaseFile{snapshot: snapshot, save: save, requests: make(chan chan<- error, maxLeaseWrites)}
}

// run writes until ctx ends.
func (f *leaseFile) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-f.requests:
			waiting := []chan<- error{first}
			for more := true; more; {
				select {
				case next := <-f.requests:
					waiting = append(waiting, next)
				default:
					more = false
				}
			}
			b, err := f.snapshot(ctx)
			if err == nil {
				err = f.save(b)
			}
			for _, w := range waiting {
				w <- err
			}
		}
	}
}

// persist returns when the leases as they are now outlive this process, or why they may not.
func (f *leaseFile) persist(ctx context.Context) error {
	if f == nil {
		return errNotSaved
	}
	written := make(chan error, 1)
	select {
	case f.requests <- written:
	default:
		return errSaveBusy
	}
	timeout := time.NewTimer(leaseTimeout)
	defer timeout.Stop()
	select {
	case err := <-written:
		return err
	case <-timeout.C:
		return errSaveSlow
	case <-ctx.Done():
		return errSaveEnded
	}
}

// leases returns what is to be restored of the leases: those saved with the tree, or later
// ones.
func (k *stateSaver) leases(withTree []byte) []byte {
	alone, err := k.dir.LoadLeases()
	if err != nil {
		k.log.Warn("leases taken since the last save are lost", "err", err)
	}
	merged, err := lease.Later(withTree, alone)
	if err != nil {
		k.log.Warn("leases taken since the last save are lost", "err", err)
		return withTree
	}
	return merged
}

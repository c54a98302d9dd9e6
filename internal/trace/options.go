// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"log/slog"
	"reflect"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Source delivers the kernel's records: the probe, or a test's own.
type Source interface {
	// Read hands at most limit waiting records to fn and returns how many there were.
	Read(limit int, fn func(*event.Event)) int
	// StopReading ends the call of Read that is under way, after the record at hand. Only fn
	// calls it.
	StopReading()
	// Wait blocks until there is something to read, Wake is called, or d has passed.
	Wait(d time.Duration) error
	// Wake ends a Wait; it may be called from any goroutine.
	Wake()
	// Tasks returns all processes as the kernel has them now; from any goroutine.
	Tasks() ([]event.Task, error)
	// Usage is Tasks without cgroup, origin and the adoption of orphans, in less time.
	Usage() ([]event.Task, error)
	// Refused is how many records were lost for want of room, ever.
	Refused() uint64
	// Pending is how many bytes of records wait to be read. Where there are some and
	// Read delivers none, the first is still being written.
	Pending() uint64
	// Mark is where the reader stands in the stream, between two reads.
	Mark() uint64
	// Untouched reports whether no record was begun since the reader stood at the mark;
	// from any goroutine.
	Untouched(mark uint64) bool
}

// Options of New.
type Options struct {
	// History is how many dead processes without living descendants are remembered;
	// 0 is the tracker's default.
	History int
	// Owners is asked about units; nil where there is no service manager.
	Owners evidence.Owners
	// Log gets the tracer's own troubles; nil is slog.Default.
	Log *slog.Logger
	// OnOrphans is called on the loop with orphans that were just judged, before anyone is
	// told of them: whoever is to end them is not to wait for that. It must not block.
	OnOrphans func([]event.ID)
	// OnEvent is called on the loop for each notable event (orphan, oom, lost,
	// resync, and what Publish adds), after subscribers were given it. It must not block.
	OnEvent func(*wire.Event)
	// OnTick is called on the loop after each look at the ring. It returns when it
	// wants to be called again at the latest, in CLOCK_BOOTTIME ns; 0 is any time. It
	// must not block.
	OnTick func() uint64
	// OnLag is called on the loop after each batch of records, with the time from the
	// last one's making to its handling. It must not block.
	OnLag func(time.Duration)
	// OnLeaseEnd is called on the loop when the holder of a lease has died, before
	// OnOrphans is for its descendants: the lease is the judgement. It must not block.
	OnLeaseEnd func(lease.Lease)
	// OnRead is called on the loop when programs and marks were read of processes whose exec
	// did not tell them. It must not block.
	OnRead func([]event.ID)
	// Recorder is told of everything that changes the tree, and of what is told of it; nil
	// records nothing.
	Recorder *past.Recorder
}

// withDefaults returns the options with a hook that does nothing where there is none.
func (o Options) withDefaults() Options {
	orElse(&o.OnOrphans, func([]event.ID) {})
	orElse(&o.OnEvent, func(*wire.Event) {})
	orElse(&o.OnTick, func() uint64 { return 0 })
	orElse(&o.OnLag, func(time.Duration) {})
	orElse(&o.OnLeaseEnd, func(lease.Lease) {})
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

func orElse[F any](hook *F, nothing F) {
	if reflect.ValueOf(*hook).IsNil() {
		*hook = nothing
	}
}

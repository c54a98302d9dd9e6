// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// stats are figures that any goroutine may read.
type stats struct {
	byKind  [event.Kinds]atomic.Uint64
	byType  []atomic.Uint64 // by the places of their types
	living  atomic.Int64
	dead    atomic.Int64
	orphans atomic.Int64
}

func (s *stats) seen(e *event.Event) {
	if int(e.Kind) < len(s.byKind) {
		s.byKind[e.Kind].Add(1)
	}
}

func (s *stats) published(kind string) {
	if i := slices.Index(wire.Types, kind); i >= 0 {
		s.byType[i].Add(1)
	}
}

func (s *stats) note(t *Tracer) {
	s.living.Store(int64(t.tree.Living()))
	s.dead.Store(int64(t.tree.Remembered()))
	s.orphans.Store(int64(t.tree.Orphans()))
}

// Stats are the tracer's figures at one instant.
type Stats struct {
	// Events counts by type, since the start; of fork, exec, exit, signal the records.
	Events map[string]uint64
	// Living, Dead and Orphans are the tree's size in processes.
	Living, Dead, Orphans int
	// Refused is how many records the ring had no room for.
	Refused uint64
	// CanarySeen is when the tracer last saw a process of its own from end to end.
	CanarySeen time.Time
	// CanaryError says why the last such process could not be made, nil when it was.
	CanaryError error
}

// Living is how many processes live; from any goroutine.
func (t *Tracer) Living() int { return int(t.stats.living.Load()) }

// Stats returns the figures; from any goroutine.
func (t *Tracer) Stats() Stats {
	s := Stats{
		Events:     make(map[string]uint64, len(wire.Types)),
		Living:     int(t.stats.living.Load()),
		Dead:       int(t.stats.dead.Load()),
		Orphans:    int(t.stats.orphans.Load()),
		Refused:    t.source.Refused(),
		CanarySeen: t.canary.LastSeen(), CanaryError: t.canary.Err(),
	}
	for i, name := range wire.Types {
		s.Events[name] = t.stats.byType[i].Load()
	}
	for _, k := range []event.Kind{event.KindFork, event.KindExec, event.KindExit, event.KindSignal} {
		s.Events[k.String()] = t.stats.byKind[k].Load()
	}
	return s
}

// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Followed is an act of a rule, and what became of its root without it.
type Followed struct {
	Act
	Fate  string
	Until time.Time // when that was; zero where it is still open
}

// A Follower takes the acts of a Player, and finds out what became of their roots. It belongs
// to one goroutine.
type Follower struct {
	Acts []*Followed // in the order of time

	roots map[event.ID][]*Followed // that are still open
}

// Act takes an act.
func (f *Follower) Act(a Act) error {
	if f.roots == nil {
		f.roots = make(map[event.ID][]*Followed)
	}
	followed := &Followed{Act: a, Fate: FateOpen}
	f.Acts = append(f.Acts, followed)
	root := a.Decision.Root
	f.roots[root] = append(f.roots[root], followed)
	return nil
}

// Apply takes an event that the player was given.
func (f *Follower) Apply(e *wire.Event) {
	if e.Process == nil {
		return
	}
	id := idOf(e.Process.PID, e.Process.StartNS)
	list := f.roots[id]
	if list == nil {
		return
	}
	fate := ""
	switch {
	case e.Type == wire.TypeVerdict && e.Process.Orphan != nil && e.Process.Orphan.Verdict == wire.VerdictDeliberate:
		fate = FateDeliberate
	case e.Type == wire.TypeExit:
		fate = fateOf(e.Process.Exit)
	default:
		return
	}
	for _, followed := range list {
		followed.Fate, followed.Until = fate, e.Time
	}
	delete(f.roots, id)
}

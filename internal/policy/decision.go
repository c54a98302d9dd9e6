// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Target is one process of a decision.
type Target struct {
	ID      event.ID
	Comm    string
	Cmdline string
	UID     uint32
	// UIDs are those that were looked at to decide upon it, if UIDsAsked. With others it is
	// to be decided again.
	UIDs      event.UIDs
	UIDsAsked bool
	Unit      string
	// RSS and Swap are bytes of the latest sample, if MemoryKnown.
	RSS, Swap   uint64
	MemoryKnown bool
}

// Spared is a living process of the tree that is left out, with its descendants.
type Spared struct {
	Target
	Reason string
	Unread bool // only because its marks or its program were not read
}

// Decision says that a rule acts upon a tree, or would.
type Decision struct {
	Rule    string
	Mode    string // ModeObserve or ModeEnforce
	Action  string // ActionKill or ActionNotify
	Scope   string // ScopeTree or ScopeProcess
	Grace   time.Duration
	Root    event.ID
	Verdict string // of the root
	At      uint64 // when it was decided
	// Targets are the processes to signal, the root first, every parent before its
	// children. Empty for ActionNotify.
	Targets []Target
	Spared  []Spared
	// Reasons are the rule's conditions as they were found, one line each.
	Reasons []string
	// Enforceable says that the lineage is good enough to kill upon, whatever the mode.
	// Withheld says why where it is not.
	Enforceable bool
	Blocker     string

	rule   *rule
	key    stateKey
	leaker *event.UIDs
}

// Enforces reports whether the decision is to be carried out and not only told.
func (d *Decision) Enforces() bool {
	return d.Action == ActionKill && d.Mode == wire.ModeEnforce && d.Enforceable && len(d.Targets) > 0
}

// Bytes is what the decision's targets hold in memory and swap, as far as it was sampled.
func (d *Decision) Bytes() (sum uint64) {
	for i := range d.Targets {
		sum += d.Targets[i].RSS + d.Targets[i].Swap
	}
	return sum
}

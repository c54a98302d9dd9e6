// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
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
	// Tree is the root of the tree that it is part of.
	Tree event.ID
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

// A Tree is one tree of a decision.
type Tree struct {
	Root event.ID
	// Begun says that one of its processes was sent a signal, or is about to be: what the
	// rule looks at may change by that, and is not asked for again.
	Begun bool

	key    stateKey
	leaker *event.UIDs
}

// Decision says that a rule acts upon a tree, or would; upon all trees of one leak that it
// found due in one evaluation.
type Decision struct {
	Rule    string
	Mode    string // ModeObserve or ModeEnforce
	Action  string // ActionKill or ActionNotify
	Scope   string // ScopeTree or ScopeProcess
	Grace   time.Duration
	Root    event.ID // of the first tree
	Trees   []Tree   // older ones first
	Leak    string   // the id of the leak that they are trees of; empty where there is none
	Verdict string   // of the roots: leaked if one of them is
	At      uint64   // when it was decided
	// Targets are the processes to signal, tree by tree, the root first, every parent before
	// its children. Empty for ActionNotify.
	Targets []Target
	Spared  []Spared
	// Reasons are the rule's conditions as they were found at the first root, one line each.
	Reasons []string
	// Enforceable says that the lineage is good enough to kill upon, whatever the mode.
	// Withheld says why where it is not.
	Enforceable bool
	Blocker     string

	rule *rule
}

// join makes decisions upon trees of one leak, by one rule and with the same right to act,
// one decision. Their order is that of their first trees.
func join(decisions []Decision) []Decision {
	type together struct {
		rule        *rule
		leak        string
		enforceable bool
	}
	first := make(map[together]int)
	joined := decisions[:0]
	for _, d := range decisions {
		key := together{d.rule, d.Leak, d.Enforceable}
		i, found := first[key]
		if !found || d.Leak == "" {
			first[key] = len(joined)
			joined = append(joined, d)
			continue
		}
		all := &joined[i]
		all.Trees = append(all.Trees, d.Trees...)
		all.Targets = append(all.Targets, d.Targets...)
		all.Spared = append(all.Spared, d.Spared...)
		if d.Verdict == verdict.Leaked {
			all.Verdict = d.Verdict
		}
	}
	for i := range joined {
		if d := &joined[i]; len(d.Trees) > 1 {
			d.Reasons = append(d.Reasons, fmt.Sprintf("so it is with %d trees of the leak", len(d.Trees)))
		}
	}
	return joined
}

// Roots returns the roots of d's trees.
func (d *Decision) Roots() []event.ID {
	roots := make([]event.ID, 0, len(d.Trees))
	for i := range d.Trees {
		roots = append(roots, d.Trees[i].Root)
	}
	return roots
}

// Only returns d for one of its trees alone, without targets.
func (d *Decision) Only(i int) Decision {
	one := *d
	one.Root, one.Trees, one.Targets, one.Spared = d.Trees[i].Root, slices.Clone(d.Trees[i:i+1]), nil, nil
	return one
}

// Begin notes of which trees a signal is sent: those of these roots.
func (d *Decision) Begin(roots []event.ID) {
	for i := range d.Trees {
		d.Trees[i].Begun = d.Trees[i].Begun || slices.Contains(roots, d.Trees[i].Root)
	}
}

// AsksHeld reports whether its rule looks at what processes hold.
func (d *Decision) AsksHeld() bool { return d.rule != nil && d.rule.needs&NeedsHeld != 0 }

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

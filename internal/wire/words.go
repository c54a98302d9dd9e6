// SPDX-License-Identifier: Apache-2.0

package wire

// Modes of a rule, and of the kill that it decides upon.
const (
	ModeObserve = "observe"
	ModeEnforce = "enforce"
)

// Scopes of a rule, and of the kill that it decides upon.
const (
	ScopeTree    = "tree"
	ScopeProcess = "process"
)

// Modes, Scopes and Severities list the valid words; of severities the least comes first.
var (
	Modes      = []string{ModeObserve, ModeEnforce}
	Scopes     = []string{ScopeTree, ScopeProcess}
	Severities = []string{"debug", "info", "notice", "warning", "error", "critical"}
)

// LostFromHistory is where entries were lost that the disk did not take: whoever reads the
// stream has had them.
const LostFromHistory = "history"

// Outcomes of a kill for one process.
const (
	OutcomeDied            = "died"
	OutcomeZombie          = "zombie"
	OutcomeUninterruptible = "uninterruptible"
	OutcomeRefused         = "refused"
	OutcomeVanished        = "vanished"
	OutcomeIdentityChanged = "identity_changed"
	OutcomeWouldKill       = "would_kill"
)

// Outcomes of a kill as a whole.
const (
	KillDone     = "done"
	KillPartial  = "partial"
	KillObserved = "observed"
	KillBudget   = "budget"
)

// RuleManual is the rule of a kill that a person has asked for by hand.
const RuleManual = "manual"

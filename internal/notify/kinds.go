// SPDX-License-Identifier: Apache-2.0

package notify

import "github.com/abot-trace/abot-trace/internal/wire"

// Event is one event as it is told; see package wire.
type Event = wire.Event

// MessageIDs are the MESSAGE_ID of each event type's records.
var MessageIDs = messageIDs()

func messageIDs() map[string]string {
	ids := make(map[string]string, len(wire.EventTypes))
	for i := range wire.EventTypes {
		ids[wire.EventTypes[i].Name] = wire.EventTypes[i].MessageID
	}
	return ids
}

// DroppedID is the MESSAGE_ID of the record that tells how many notices were
// dropped while journald or the helper did not take any.
const DroppedID = "8109b3fc46f7442089584e2a254d9160"

// SeverityOf is how much an event matters.
func SeverityOf(e *Event) Severity {
	switch e.Type {
	case wire.TypeFork, wire.TypeExec, wire.TypeExit, wire.TypeSignal, wire.TypeCaught:
		return SeverityDebug
	case wire.TypeOrphan:
		return orphanSeverity(e)
	case wire.TypeVerdict:
		return verdictSeverity(e)
	case wire.TypeLeak:
		return leakSeverity(e.Leak)
	case wire.TypeTrust:
		return trustSeverity(e.Trust)
	case wire.TypeKill:
		return killSeverity(e.Kill)
	case wire.TypeAlert:
		return alertSeverity(e.Alert)
	case wire.TypeOOM:
		return SeverityError
	case wire.TypeLost:
		return SeverityWarning
	default:
		return SeverityInfo
	}
}

func orphanSeverity(e *Event) Severity {
	if e.Process == nil || e.Process.Orphan == nil {
		return SeverityNotice
	}
	switch e.Process.Orphan.Verdict {
	case wire.VerdictLeaked:
		return SeverityWarning
	case wire.VerdictDeliberate:
		return SeverityInfo
	default:
		return SeverityNotice
	}
}

// verdictSeverity is that of an orphan, but of one of which the same was held before and is
// only certain now: that is no news for people.
func verdictSeverity(e *Event) Severity {
	if e.Process != nil && e.Process.Orphan != nil && e.Verdict != nil && e.Verdict.Previous == e.Process.Orphan.Verdict {
		return SeverityDebug
	}
	return orphanSeverity(e)
}

// leakSeverity is that of what was left behind; that its members came and went, and that it
// ended, are no reason to worry.
func leakSeverity(l *wire.Leak) Severity {
	switch {
	case l == nil:
		return SeverityNotice
	case l.Change == wire.LeakMembers:
		return SeverityInfo
	case l.Change == wire.LeakEnded:
		return SeverityNotice
	default:
		return SeverityWarning
	}
}

// trustSeverity is a warning where a rule gave up: what people decide they know.
func trustSeverity(t *wire.Trust) Severity {
	if t != nil && t.Action == wire.TrustSuspend {
		return SeverityWarning
	}
	return SeverityNotice
}

func killSeverity(k *wire.Kill) Severity {
	switch {
	case k == nil:
		return SeverityNotice
	case k.Outcome == wire.KillPartial:
		return SeverityError
	case k.Outcome == wire.KillBudget:
		return SeverityWarning
	default:
		return SeverityNotice
	}
}

func alertSeverity(a *wire.Alert) Severity {
	switch {
	case a == nil:
		return SeverityNotice
	case a.State == wire.AlertCritical:
		return SeverityCritical
	case a.State == wire.AlertWarning:
		return SeverityWarning
	default:
		return SeverityNotice
	}
}

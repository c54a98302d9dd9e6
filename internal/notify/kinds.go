// SPDX-License-Identifier: Apache-2.0

package notify

import "github.com/abot-trace/abot-trace/internal/wire"

// Event is one event as it is told; see package wire.
type Event = wire.Event

// MessageIDs are the MESSAGE_ID of each event type's records. They never change;
// each has an entry in deploy/systemd/abot-trace.catalog.
var MessageIDs = map[string]string{
	wire.TypeFork:   "bcc6d88ee490417b9140cd9e6319b704",
	wire.TypeExec:   "01b19b684fc340c3bb3e1e1ac6878286",
	wire.TypeExit:   "7b7906c740b140b29181dff0200c83ee",
	wire.TypeOrphan: "5dbae7975ebf4c59b1c36f70eb58a767",
	wire.TypeOOM:    "46136196db7d4056987a0e8edf05796b",
	wire.TypeSignal: "deaedc334f8540ee80b42dc737c747da",
	wire.TypeKill:   "999705e826ad480abeea8427b85423e7",
	wire.TypeAlert:  "5aea0c9af28b4e9090fcdf6949f5f669",
	wire.TypeLost:   "b1cfe3b0d730454fac94bde60b770943",
	wire.TypeResync: "d413561fa494476e85d2d656c2bcd9b2",
}

// DroppedID is the MESSAGE_ID of the record that tells how many notices were
// dropped while journald or the helper did not take any.
const DroppedID = "8109b3fc46f7442089584e2a254d9160"

// SeverityOf is how much an event matters.
func SeverityOf(e *Event) Severity {
	switch e.Type {
	case wire.TypeFork, wire.TypeExec, wire.TypeExit, wire.TypeSignal:
		return SeverityDebug
	case wire.TypeOrphan:
		return orphanSeverity(e)
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

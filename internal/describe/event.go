// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// LifecycleTypes are the types of the events that changes of the tree are; other changes are
// none.
var LifecycleTypes = [...]string{
	tracker.Forked:   wire.TypeFork,
	tracker.Execed:   wire.TypeExec,
	tracker.Exited:   wire.TypeExit,
	tracker.Signaled: wire.TypeSignal,
	tracker.Caught:   wire.TypeCaught,
}

// LifecycleType is the type of the event that a change is; empty where it is none.
func LifecycleType(kind tracker.ChangeKind) string {
	if int(kind) < len(LifecycleTypes) {
		return LifecycleTypes[kind]
	}
	return ""
}

// Lifecycle writes into e the event that a change of p is, but for what numbers it. The
// process is that of the scratch.
func (c *Converter) Lifecycle(e *wire.Event, s *Scratch, kind tracker.ChangeKind, p *tracker.Process, sent *tracker.Sent) {
	*e = wire.Event{Type: LifecycleTypes[kind], Process: c.Fill(s, p)}
	switch kind {
	case tracker.Signaled:
		e.Signal = c.Signal(sent)
	case tracker.Caught:
		e.Caught = c.Signal(sent)
	}
}

// LeftLineage is what is said of a process that was made to look like no child of its spawner.
const LeftLineage = "it left its lineage by CLONE_PARENT: its spawner made it a child of the process that had adopted the spawner"

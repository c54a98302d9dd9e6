// SPDX-License-Identifier: Apache-2.0

// Package verdict decides from evidence whether an orphan was leaked, left on
// purpose, or neither can be told. It is pure: facts in, a verdict with one line
// of evidence per fact out.
package verdict

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// Facts is what was true of a direct orphan and its spawner when the spawner died.
// A probe that failed is recorded in Errors, and is never mistaken for an answer.
type Facts struct {
	// Lineage is false where the edge was not observed from an event.
	Observed bool

	// The spawner's end.
	LeakerComm  string
	LeakerPID   int32
	Status      event.Status
	StatusKnown bool
	OOM         bool
	KilledBy    string // "pid 4711 (bash)", empty where not known
	// Lived is the time from the orphan's fork to the spawner's death.
	Lived time.Duration

	// The child at its fork (which is what its spawner had) and at the death.
	AtFork  event.Origin
	AtDeath event.Origin
	// AtForkKnown and AtDeathKnown say whether the two were read.
	AtForkKnown, AtDeathKnown bool

	// Ownership.
	AdopterComm string
	AdopterKind event.Adopter
	Unit        string // systemd unit of the child's cgroup
	// MainPID says that it is the main process of an active unit; Starting that its
	// unit is still starting; KillMode is the unit's KillMode where known.
	MainPID, Starting bool
	KillMode          string
	// UserService says that Unit is a service of a user manager, which was not asked:
	// any process of it may be the main one that it has been handed.
	UserService   bool
	ContainerInit bool // init of a pid namespace below the tracer's
	TmuxServer    bool // a live tmux or screen server, or a descendant of one
	LoginSession  bool // a login session's own process (session leader of a logind session)
	// Marks in the environment.
	MarksKnown, Keep, Leash bool
	// LeaseEnded says that the holder of the lease that covers it is dead.
	LeaseEnded bool

	// Errors are probes that failed, one line each: "environ: permission denied".
	Errors []string
}

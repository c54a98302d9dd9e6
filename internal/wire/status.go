// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// States of a Status.
const (
	StatusWell   = "well"
	StatusUnwell = "unwell"
)

// Status is the document of `status --json`.
type Status struct {
	Schema   int             `json:"schema"`
	Host     string          `json:"host"`
	Version  string          `json:"version"`
	State    string          `json:"state"` // unwell where there is a problem
	Problems []StatusProblem `json:"problems"`
	Stream   StatusStream    `json:"stream"`
	Rules    []StatusRule    `json:"rules"`
	Stop     *Stop           `json:"stop,omitempty"` // nil where none is configured
	Leaks    StatusLeaks     `json:"leaks"`
	Notices  []StatusNotices `json:"notices"`
	LastKill *StatusKill     `json:"last_kill,omitempty"` // that is remembered, and signalled somebody
}

// StatusProblem is something that is not well, and what to do about it.
type StatusProblem struct {
	What string `json:"what"`
	Hint string `json:"hint,omitempty"`
}

// StatusStream is how the events come.
type StatusStream struct {
	PID       int       `json:"pid"` // the daemon's
	StartedAt time.Time `json:"started_at"`
	// SeenAt is when the daemon last saw a process of its own from end to end.
	SeenAt    *time.Time `json:"seen_at,omitempty"`
	Lost      uint64     `json:"lost"` // records, since the programs were attached
	Processes int        `json:"processes"`
	Orphans   int        `json:"orphans"`
}

// StatusRule is one rule, and how often it has acted since the daemon's start.
type StatusRule struct {
	Name      string `json:"name"`
	Mode      string `json:"mode"`
	Action    string `json:"action"`
	Kills     uint64 `json:"kills"`
	WouldKill uint64 `json:"would_kill"`
}

// StatusLeaks sums the open leaks.
type StatusLeaks struct {
	Open      int    `json:"open"`
	Leaked    int    `json:"leaked"` // of these, those whose verdict is leaked
	Processes int    `json:"processes"`
	RSSBytes  uint64 `json:"rss_bytes"`
	SwapBytes uint64 `json:"swap_bytes"`
}

// StatusNotices is what became of the notices to one target since the daemon's start.
type StatusNotices struct {
	Target    string `json:"target"`
	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`
	Dropped   uint64 `json:"dropped"`
}

// StatusKill is a kill and when it was told.
type StatusKill struct {
	Time time.Time `json:"time"`
	Kill
}

// Stop is the file by which an operator calls off all kills.
type Stop struct {
	Path    string `json:"path"`
	InForce bool   `json:"in_force"` // it is there, or may be
	// Since is when it was made, and Reason its first line; absent where they are not known.
	Since  *time.Time `json:"since,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

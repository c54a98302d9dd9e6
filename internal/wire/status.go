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
	Hold     *StatusHold     `json:"hold,omitempty"` // what rules wait for; absent where they do not
	Leaks    StatusLeaks     `json:"leaks"`
	Decided  StatusDecided   `json:"decided"`
	Notices  []StatusNotices `json:"notices"`
	History  *StatusHistory  `json:"history,omitempty"`   // nil where none is kept
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

// StatusHistory is what is kept of the past.
type StatusHistory struct {
	// Epoch is another one after a purge: cursors of before name nothing any more.
	Epoch string `json:"epoch"`
	// Stream is all that changed a process, Notable what people are told.
	Stream  StatusKept `json:"stream"`
	Notable StatusKept `json:"notable"`
	// Lost counts entries that the disk did not take, Damaged those that it did not give back,
	// since the daemon's start; SetAside segments of no use.
	Lost     uint64 `json:"lost"`
	Damaged  uint64 `json:"damaged"`
	SetAside uint64 `json:"set_aside"`
	Error    string `json:"error,omitempty"` // why nothing can be written now
}

// StatusKept is one part of the history.
type StatusKept struct {
	Since      *time.Time `json:"since,omitempty"` // nil where nothing is kept yet
	Until      *time.Time `json:"until,omitempty"`
	Bytes      uint64     `json:"bytes"`
	LimitBytes uint64     `json:"limit_bytes"`
	LimitAge   float64    `json:"limit_age_seconds"`
	Segments   int        `json:"segments"`
	// BytesPerDay is how fast it grows, on the average of what is kept; SecondsLeft when the
	// limit is reached at that rate and the oldest goes. Absent where too little is kept to say.
	BytesPerDay *float64 `json:"bytes_per_day,omitempty"`
	SecondsLeft *float64 `json:"seconds_left,omitempty"`
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

// StatusHold is what no rule ends anything after for the present: a start, a loss of records, a
// resync, a step of the clock.
type StatusHold struct {
	After string    `json:"after"`
	Until time.Time `json:"until"`
}

// MaxStatusDecided is how many decisions a status lists.
const MaxStatusDecided = 64

// StatusDecided is what was decided about leaks of fingerprints.
type StatusDecided struct {
	Acked     int `json:"acked"`
	Ignored   int `json:"ignored"`
	Suspended int `json:"suspended"` // rules, each for a fingerprint
	// List has at most MaxStatusDecided of them: suspensions first, then what is ignored.
	List []Trust `json:"list"`
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

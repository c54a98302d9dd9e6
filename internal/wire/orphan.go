// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// Leaker is the dead spawner that left an orphan behind.
type Leaker struct {
	PID     int32    `json:"pid"`
	StartNS uint64   `json:"start_ns"`
	Comm    string   `json:"comm,omitempty"`
	Cmdline []string `json:"cmdline,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
}

// Adopter is the process that the kernel gives an orphan to.
type Adopter struct {
	PID       int32  `json:"pid"`
	Comm      string `json:"comm,omitempty"`
	Kind      string `json:"kind,omitempty"` // "init" or "subreaper"
	Confirmed bool   `json:"confirmed"`
}

// Usage sums an orphan and its living descendants.
type Usage struct {
	Processes int     `json:"processes"`
	RSSBytes  *uint64 `json:"rss_bytes,omitempty"`
	SwapBytes *uint64 `json:"swap_bytes,omitempty"`
	// CPUPercent is of one core, absent where it was not measured.
	CPUPercent *float64 `json:"cpu_percent,omitempty"`
}

// Orphan is what is known of an orphaning. Since and Leaker are absent where the
// orphan is older than the tracer.
type Orphan struct {
	Since   *time.Time `json:"since,omitempty"`
	SinceNS uint64     `json:"since_ns,omitempty"`
	// Direct is true when the process that spawned it died, false when it is
	// stranded: its spawner lives but an ancestor is dead.
	Direct  bool     `json:"direct"`
	Leaker  *Leaker  `json:"leaker,omitempty"`
	Adopter *Adopter `json:"adopter,omitempty"`
	Verdict string   `json:"verdict"`
	// Provisional says that a fact is pending which could change the verdict, for a second
	// at most. No rule acts on it.
	Provisional bool `json:"provisional,omitempty"`
	// Stdio is StdioAbandoned where nobody is at the other end of its standard input, output
	// or error; absent where somebody is, or that is not known.
	Stdio    string   `json:"stdio,omitempty"`
	Evidence []string `json:"evidence"`
	Leak     string   `json:"leak,omitempty"` // the id of the leak that it belongs to
	Tree     *Usage   `json:"tree,omitempty"`
}

// StdioAbandoned is the value of Orphan.Stdio.
const StdioAbandoned = "abandoned"

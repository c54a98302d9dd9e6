// SPDX-License-Identifier: Apache-2.0

package wire

// KillPlan says what a kill by hand would end, and what it would leave alone.
type KillPlan struct {
	Schema int `json:"schema"`
	// PID and StartNS are the process that was named; absent of a leak, whose id is Leak.
	PID       int32         `json:"pid,omitempty"`
	StartNS   uint64        `json:"start_ns,omitempty"`
	Leak      string        `json:"leak,omitempty"`
	Scope     string        `json:"scope"`
	Processes []PlannedKill `json:"processes"`
	Spared    []PlannedKill `json:"spared"`
	// Stop is the stop file where it is in force: the kill is refused unless it is asked for
	// despite it.
	Stop *Stop `json:"stop,omitempty"`
}

// PlannedKill is one process of a KillPlan; Reason says why it is left alone.
type PlannedKill struct {
	PID       int32    `json:"pid"`
	StartNS   uint64   `json:"start_ns"`
	Comm      string   `json:"comm,omitempty"`
	Cmdline   []string `json:"cmdline,omitempty"` // not of those left alone
	User      string   `json:"user,omitempty"`
	RSSBytes  *uint64  `json:"rss_bytes,omitempty"` // at the last sample
	SwapBytes *uint64  `json:"swap_bytes,omitempty"`
	Reason    string   `json:"reason,omitempty"`
}

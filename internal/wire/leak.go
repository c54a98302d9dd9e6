// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// What an event of a leak tells.
const (
	LeakOpened    = "opened"
	LeakMembers   = "members"
	LeakVerdict   = "verdict"
	LeakThreshold = "threshold"
	LeakEnded     = "ended"
)

// States of a leak.
const (
	LeakStateOpen  = "open"
	LeakStateEnded = "ended"
)

// MaxLeakMembers is how many members a Leak lists; the rest is counted.
const MaxLeakMembers = 64

// Leak is what one death left behind: the leaker with all its orphans that are not
// deliberate, and what they forked since.
type Leak struct {
	ID string `json:"id"` // "L" and 12 hexadecimal digits
	// Change is what an event tells; absent elsewhere.
	Change    string `json:"change,omitempty"`
	Threshold string `json:"threshold,omitempty"` // "age" or "memory", of a threshold
	Previous  string `json:"previous,omitempty"`  // the verdict before, of a verdict
	State     string `json:"state"`
	// Fingerprint is stable over days and hosts for what the leak is a case of, Name its
	// form for people, Program the leaker's program.
	Fingerprint string     `json:"fingerprint"`
	Name        string     `json:"name"`
	Program     string     `json:"program,omitempty"`
	Verdict     string     `json:"verdict"`
	Evidence    []string   `json:"evidence,omitempty"` // of the weightiest member, the deciding fact first
	Leaker      LeakLeaker `json:"leaker"`
	OpenedAt    time.Time  `json:"opened_at"`
	OpenedNS    uint64     `json:"opened_ns"`
	EndedAt     *time.Time `json:"ended_at,omitempty"`
	EndedNS     uint64     `json:"ended_ns,omitempty"`
	EndedBy     string     `json:"ended_by,omitempty"` // exit kill oom signal mixed
	KillIDs     []string   `json:"kill_ids,omitempty"`
	Rules       []string   `json:"rules,omitempty"` // of those kills
	Processes   LeakCount  `json:"processes"`
	RSSBytes    *uint64    `json:"rss_bytes,omitempty"`
	SwapBytes   *uint64    `json:"swap_bytes,omitempty"`
	PeakBytes   *uint64    `json:"peak_bytes,omitempty"`
	// ByteSeconds is the memory that its members have held, over time; CPUSeconds is what
	// they have used since the leak.
	ByteSeconds *float64     `json:"byte_seconds,omitempty"`
	CPUSeconds  *float64     `json:"cpu_seconds,omitempty"`
	Members     []LeakMember `json:"members,omitempty"`
	// Trust is what was decided about its fingerprint (documents only).
	Trust []Trust `json:"trust,omitempty"`
	// Holds is what its living members keep from others (the document of one open leak only).
	Holds *Holds `json:"holds,omitempty"`
	// Remedy is what keeps it from coming back (events, and the document of one leak).
	Remedy *Remedy `json:"remedy,omitempty"`
}

// Remedy is what keeps leaks of a kind from coming back.
type Remedy struct {
	Kind string `json:"kind"`
	Text string `json:"text"` // one sentence
	Link string `json:"link"` // a page of the documents, with its section
}

// LeakLeaker is the dead process that left a leak.
type LeakLeaker struct {
	PID       int32    `json:"pid"`
	StartNS   uint64   `json:"start_ns"`
	Comm      string   `json:"comm,omitempty"`
	Cmdline   []string `json:"cmdline,omitempty"`
	Exe       string   `json:"exe,omitempty"`
	UID       *uint32  `json:"uid,omitempty"`
	User      string   `json:"user,omitempty"`
	Unit      string   `json:"unit,omitempty"`
	Container string   `json:"container,omitempty"`
	// ContainerName, ContainerImage and Pod are as those of a Process.
	ContainerName  string `json:"container_name,omitempty"`
	ContainerImage string `json:"container_image,omitempty"`
	Pod            *Pod   `json:"pod,omitempty"`
	Exit           *Exit  `json:"exit,omitempty"`
}

// LeakCount counts a leak's processes.
type LeakCount struct {
	Now   int `json:"now"`
	Peak  int `json:"peak"`
	Total int `json:"total"`
}

// LeakMember is one living process of a leak.
type LeakMember struct {
	PID     int32    `json:"pid"`
	StartNS uint64   `json:"start_ns"`
	Comm    string   `json:"comm,omitempty"`
	Cmdline []string `json:"cmdline,omitempty"`
	Verdict string   `json:"verdict"`
	Direct  bool     `json:"direct"`
}

// Leaks is the document of `leaks --json`. With --by it carries Groups, else Leaks.
type Leaks struct {
	Schema int         `json:"schema"`
	Host   string      `json:"host"`
	Since  *time.Time  `json:"since,omitempty"`
	Until  *time.Time  `json:"until,omitempty"`
	Leaks  []Leak      `json:"leaks"`
	Groups []LeakGroup `json:"groups,omitempty"`
}

// LeakGroup sums the leaks that have something in common.
type LeakGroup struct {
	Key         string         `json:"key"`
	Leaks       int            `json:"leaks"`
	Open        int            `json:"open"`
	Processes   int            `json:"processes"`
	RSSBytes    uint64         `json:"rss_bytes"`
	SwapBytes   uint64         `json:"swap_bytes"`
	ByteSeconds float64        `json:"byte_seconds"`
	CPUSeconds  float64        `json:"cpu_seconds"`
	LastAt      time.Time      `json:"last_at"`
	Verdicts    map[string]int `json:"verdicts"`
}

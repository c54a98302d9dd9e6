// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// What people and the daemon decide about leaks of one fingerprint, and about rules.
const (
	TrustAck     = "ack"     // known: nobody is sent a notice
	TrustIgnore  = "ignore"  // no rule ever ends them
	TrustSuspend = "suspend" // the rule's victims came back: it ends no more of them
	TrustForget  = "forget"  // what was decided holds no more
	TrustArm     = "arm"     // the rule ends what it matches
	TrustDisarm  = "disarm"  // it says what it would end
)

// Trust is one such decision: with its Action the own object of an event, without one as
// it holds.
type Trust struct {
	Action      string     `json:"action,omitempty"`
	Kind        string     `json:"kind,omitempty"` // ack, ignore or suspend
	Fingerprint string     `json:"fingerprint,omitempty"`
	Name        string     `json:"name,omitempty"` // the fingerprint's form for people
	Rule        string     `json:"rule,omitempty"` // of a suspension
	Reason      string     `json:"reason"`
	By          *TrustBy   `json:"by,omitempty"` // who decided it; absent where the daemon did
	Since       time.Time  `json:"since"`
	Until       *time.Time `json:"until,omitempty"` // of an ack
}

// TrustBy is who decided something, as the kernel vouches for it.
type TrustBy struct {
	UID  uint32 `json:"uid"`
	User string `json:"user,omitempty"`
	PID  int32  `json:"pid,omitempty"`
}

// RuleStatus is a rule with what it may do and has done.
type RuleStatus struct {
	Name string `json:"name"`
	Mode string `json:"mode"` // observe or enforce
	// ArmedBy and ArmedAt are absent where a file of the configuration arms it by itself.
	ArmedBy     string     `json:"armed_by,omitempty"`
	ArmedAt     *time.Time `json:"armed_at,omitempty"`
	LeaksPerDay int        `json:"leaks_per_day,omitempty"` // 0 is no limit
	// Today counts the last 24 hours; the others count since the rule first ended anything.
	Today     int      `json:"today"`
	Leaks     uint64   `json:"leaks"`
	Processes uint64   `json:"processes"`
	Bytes     uint64   `json:"freed_bytes"`
	Suspended []string `json:"suspended,omitempty"` // fingerprints
}

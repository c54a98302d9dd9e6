// SPDX-License-Identifier: Apache-2.0

package wire

import "time"

// Stop is the file by which an operator calls off all kills.
type Stop struct {
	Path    string `json:"path"`
	InForce bool   `json:"in_force"` // it is there, or may be
	// Since is when it was made, and Reason its first line; absent where they are not known.
	Since  *time.Time `json:"since,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/abot-trace/abot-trace/internal/event"
)

// MaySignal reports whether a process of user uid may signal pid now, as kill(2) has it:
// it is root's, or the other's real and saved user ids are its own. It reads procfs.
func MaySignal(uid uint32, pid int32) bool {
	if uid == 0 {
		return true
	}
	ids, err := readUserIDs(event.ID{PID: pid})
	return err == nil && event.UIDs{Real: uid, Effective: uid, Saved: uid}.CouldSignal(ids)
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"os"
	"strings"
)

// userIDs reads the real and the saved user id of a process (proc_pid_status(5)).
func userIDs(pid int32) (realID, saved uint32, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		var effective uint32
		if n, _ := fmt.Sscanf(line, "Uid: %d %d %d", &realID, &effective, &saved); n == 3 {
			return realID, saved, nil
		}
	}
	return 0, 0, fmt.Errorf("no user ids in /proc/%d/status", pid)
}

// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ignores reports whether pid ignores sig, as far as procfs tells.
func ignores(pid int, sig unix.Signal) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return err == nil && maskHolds(b, "SigIgn:", sig)
}

// maskHolds reports whether the line of /proc/PID/status that begins with name
// is a mask with sig in it.
func maskHolds(status []byte, name string, sig unix.Signal) bool {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		hex, ok := strings.CutPrefix(lines.Text(), name)
		if !ok {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		return err == nil && sig >= 1 && mask&(1<<(sig-1)) != 0
	}
	return false
}

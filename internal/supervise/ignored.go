// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

// ignores reports whether pid ignores sig, as far as procfs tells.
func ignores(pid int, sig unix.Signal) bool {
	status, err := procfs.FS{}.Status(int32(pid))
	return err == nil && sig >= 1 && status.SigIgn&(1<<(sig-1)) != 0
}

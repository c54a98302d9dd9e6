// SPDX-License-Identifier: Apache-2.0

package probe

import "golang.org/x/sys/unix"

// raiseMemlock lifts the limit of locked memory where BPF memory counts against it, which
// it does before 5.11. Where that is refused and needed, the load says so. The release is
// asked because the library finds out by trying, for which every start of the program
// makes a map, whatever the command.
func raiseMemlock() {
	release, err := kernelRelease()
	if err != nil || !isBefore(release, 5, 11) {
		return
	}
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
}

// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropPerfmon gives up, on every thread, the capability that only the load of programs
// takes (CAP_PERFMON, capabilities(7)). CAP_BPF stays: kernels that keep bpf(2) from
// ordinary users ask for it at each look at all tasks. In a program that is linked with
// C, whose threads Go's runtime does not know, it fails with ENOTSUP.
func dropPerfmon() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	word, bit := &held[unix.CAP_PERFMON/32], uint32(1)<<(unix.CAP_PERFMON%32)
	if word.Permitted&bit == 0 {
		return nil
	}
	word.Effective &^= bit
	word.Permitted &^= bit
	word.Inheritable &^= bit
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&held[0])), 0)
	if errno != 0 {
		return fmt.Errorf("give up CAP_PERFMON: %w", errno)
	}
	return nil
}

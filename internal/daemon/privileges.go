// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropCapabilities gives up, on every thread, the capabilities that only the start takes:
// CAP_PERFMON to load programs, CAP_SYS_NICE to raise the priority (capabilities(7)).
// CAP_BPF stays: kernels that keep bpf(2) from ordinary users ask for it at each look at
// all tasks. In a program that is linked with C, whose threads Go's runtime does not know,
// it fails with ENOTSUP.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	had := held
	for _, c := range []int{unix.CAP_PERFMON, unix.CAP_SYS_NICE} {
		set, bit := &held[c/32], uint32(1)<<(c%32)
		set.Effective &^= bit
		set.Permitted &^= bit
		set.Inheritable &^= bit
	}
	if held == had {
		return nil
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&held[0])), 0)
	if errno != 0 {
		return fmt.Errorf("give up CAP_PERFMON and CAP_SYS_NICE: %w", errno)
	}
	return nil
}

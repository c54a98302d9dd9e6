// SPDX-License-Identifier: Apache-2.0

// Package qemu describes the virtual machines of the tests. They are emulated: no test
// machine needs KVM, and all behave alike.
package qemu

import (
	"context"
	"os/exec"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/test/debian"
)

// A Machine has two CPUs, a console, and a second serial port to talk to the test by.
type Machine struct {
	Kernel *debian.Kernel
	MiB    int    // of memory
	Append string // to the kernel's command line
	// Console is the file that takes the console.
	Console string
	// Port is the other end of the second port, as qemu's -chardev wants it, without
	// an id.
	Port string
	Args []string // more of qemu's
}

// Command returns the machine's command: it ends when the machine does, by power off
// or panic.
func (m Machine) Command(ctx context.Context) *exec.Cmd {
	program, console := "qemu-system-x86_64", "ttyS0"
	hardware := []string{"-cpu", "max", "-serial", "chardev:console", "-serial", "chardev:port"}
	if m.Kernel.Arch == "arm64" {
		program, console = "qemu-system-aarch64", "ttyAMA0"
		// The newest CPU's pointer authentication would take half of the emulation's time.
		hardware = []string{"-machine", "virt", "-cpu", "cortex-a72",
			"-serial", "chardev:console", "-device", "pci-serial,chardev=port"}
	}
	args := append(hardware,
		// One host thread for both CPUs: with more, emulated kernels oops now and then.
		"-accel", "tcg,thread=single", "-smp", "2", "-m", strconv.Itoa(m.MiB),
		"-kernel", m.Kernel.Image,
		"-append", "console="+console+" quiet loglevel=4 panic=-1 "+m.Append,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "file,id=console,path="+escape(m.Console), "-chardev", m.Port+",id=port")
	return exec.CommandContext(ctx, program, append(args, m.Args...)...)
}

// File is a Port that writes to a file.
func File(path string) string { return "file,path=" + escape(path) }

// Socket is a Port at a unix socket that the machine listens on.
func Socket(path string) string { return "socket,server=on,wait=off,path=" + escape(path) }

// escape keeps a comma in a path from ending it.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

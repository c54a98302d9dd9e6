// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// OpenPort opens the second serial port, in the machine, and has it pass bytes as they
// are.
func OpenPort() (*os.File, error) {
	path := "/dev/ttyS1"
	if runtime.GOARCH == "arm64" {
		path = "/dev/ttyS0" // the console is another kind of port there
	}
	port, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err == nil {
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		err = unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, t)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return port, nil
}

// Drain waits until everything written to the port has left the machine.
func Drain(port *os.File) error { return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) }

// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"
)

// Exe returns the path of the program that the process runs, as its reader's root
// shows it, also when the file has been replaced since (the kernel's " (deleted)"
// is taken off). It is empty for kernel threads and zombies, which have none.
func (p *Process) Exe() (string, error) {
	path, err := p.link("exe")
	return strings.TrimSuffix(path, " (deleted)"), err
}

// Cwd returns the working directory, with " (deleted)" behind it where it is. It
// is empty for zombies.
func (p *Process) Cwd() (string, error) { return p.link("cwd") }

// link reads a link that a living process may lack.
func (p *Process) link(name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(p.dir, name, buf[:])
	if err == unix.ENOENT && p.exists() {
		return "", nil
	}
	if err != nil {
		return "", p.fail(name, err)
	}
	return string(buf[:n]), nil
}

// MaxCmdline is how much of a command line is read, in bytes.
const MaxCmdline = 64 << 10

// Cmdline returns the arguments as the process shows them: it can have overwritten
// them, so they prove nothing. Empty arguments are kept but for trailing ones,
// which cannot be told from padding. It is nil for kernel threads and zombies.
// truncated says that there were more than MaxCmdline bytes.
//
// It waits for the process's memory map lock and can block as long as the process
// holds it: not for an event loop.
func (p *Process) Cmdline() (args []string, truncated bool, err error) {
	buf, err := p.readAll("cmdline", 4<<10, MaxCmdline+1)
	if err != nil {
		return nil, false, err
	}
	truncated = len(buf) > MaxCmdline
	return splitArgs(buf[:min(len(buf), MaxCmdline)]), truncated, nil
}

func splitArgs(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

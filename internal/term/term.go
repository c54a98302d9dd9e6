// SPDX-License-Identifier: Apache-2.0

// Package term answers what output may look like: in colour or not, how wide.
package term

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Modes of the --color flag.
const (
	Auto   = "auto"
	Always = "always"
	Never  = "never"
)

// CheckMode returns an error unless mode is one of the modes or empty (Auto).
func CheckMode(mode string) error {
	switch mode {
	case "", Auto, Always, Never:
		return nil
	}
	return fmt.Errorf("colour %q: want auto, always or never", mode)
}

// Color reports whether output to w may use colours. Always and Never decide; in
// Auto, NO_COLOR forbids, then CLICOLOR_FORCE allows, then w has to be a terminal
// that is not dumb.
func Color(mode string, w io.Writer) bool {
	switch mode {
	case Always:
		return true
	case Never:
		return false
	}
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	if force := os.Getenv("CLICOLOR_FORCE"); force != "" && force != "0" {
		return true
	}
	return os.Getenv("TERM") != "dumb" && IsTerminal(w)
}

// A terminal is what has a descriptor that may be one: a file, a [Pager], a [Screen].
type terminal interface{ Fd() uintptr }

// IsTerminal reports whether w is a terminal, or goes to one.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(terminal)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Width returns the columns of the terminal w, or 0 where w is not a terminal or
// does not say: lines are then not to be cut.
func Width(w io.Writer) int {
	columns, _ := size(w)
	return columns
}

// Height returns the rows of the terminal w, or 0 where w is not a terminal or does not
// say.
func Height(w io.Writer) int {
	_, rows := size(w)
	return rows
}

func size(w io.Writer) (columns, rows int) {
	f, ok := w.(terminal)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

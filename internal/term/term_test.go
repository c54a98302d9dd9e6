// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns a pseudo-terminal of 97 columns and 10 rows.
func openTerminal(t *testing.T) *os.File {
	tty, _ := openBothEnds(t)
	return tty
}

// openBothEnds returns that and its other end.
func openBothEnds(t *testing.T) (tty, master *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 97}); err != nil {
		t.Fatal(err)
	}
	return tty, master
}

func TestColor(t *testing.T) {
	tests := []struct {
		name, mode, term, no, force string
		onTerminal, want            bool
	}{
		{name: "terminal", mode: Auto, term: "xterm", onTerminal: true, want: true},
		{name: "no mode", mode: "", term: "xterm", onTerminal: true, want: true},
		{name: "pipe", mode: Auto, term: "xterm"},
		{name: "dumb terminal", mode: Auto, term: "dumb", onTerminal: true},
		{name: "NO_COLOR", mode: Auto, term: "xterm", no: "1", onTerminal: true},
		{name: "CLICOLOR_FORCE", mode: Auto, force: "1", want: true},
		{name: "CLICOLOR_FORCE=0", mode: Auto, force: "0"},
		{name: "NO_COLOR wins over CLICOLOR_FORCE", mode: Auto, no: "1", force: "1", onTerminal: true},
		{name: "always wins over NO_COLOR", mode: Always, no: "1", want: true},
		{name: "never", mode: Never, term: "xterm", force: "1", onTerminal: true},
	}
	tty := openTerminal(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TERM", tt.term)
			t.Setenv("NO_COLOR", tt.no)
			t.Setenv("CLICOLOR_FORCE", tt.force)
			w := io.Writer(&bytes.Buffer{})
			if tt.onTerminal {
				w = tty
			}
			if got := Color(tt.mode, w); got != tt.want {
				t.Errorf("Color(%q) = %v, want %v", tt.mode, got, tt.want)
			}
		})
	}
}

func TestWidth(t *testing.T) {
	if got := Width(openTerminal(t)); got != 97 {
		t.Errorf("Width of a terminal = %d, want 97", got)
	}
	if got := Height(openTerminal(t)); got != 10 {
		t.Errorf("Height of a terminal = %d, want 10", got)
	}
	if got := Width(&bytes.Buffer{}); got != 0 {
		t.Errorf("Width of a buffer = %d, want 0", got)
	}
}

func TestCheckMode(t *testing.T) {
	if err := CheckMode("sometimes"); err == nil {
		t.Error("CheckMode(sometimes): no error")
	}
	if err := CheckMode(Auto); err != nil {
		t.Error(err)
	}
}

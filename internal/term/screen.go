// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bytes"
	"fmt"
	"os"
)

// A Screen draws on a terminal again and again, each time in place of the last and in no
// more rows than the terminal has. It belongs to one goroutine.
type Screen struct {
	out   *os.File
	frame bytes.Buffer
	drawn bool
}

// NewScreen returns a screen on the terminal out.
func NewScreen(out *os.File) *Screen { return &Screen{out: out} }

// Fd is the terminal's.
func (s *Screen) Fd() uintptr { return s.out.Fd() }

// Write adds to what Show draws.
func (s *Screen) Write(b []byte) (int, error) { return s.frame.Write(b) }

// Show draws what was written since the last Show. What has no room is counted in the
// last row.
func (s *Screen) Show() error {
	lines := bytes.Split(bytes.TrimSuffix(s.frame.Bytes(), []byte{'\n'}), []byte{'\n'})
	if rows := Height(s.out); rows > 0 && len(lines) > rows {
		more := fmt.Sprintf("%d more lines", len(lines)-rows+1)
		lines = append(lines[:rows-1:rows-1], []byte(more))
	}
	var b bytes.Buffer
	if !s.drawn {
		b.WriteString("\x1b[2J")
		s.drawn = true
	}
	b.WriteString("\x1b[H") // in place of the last one, which nobody sees vanish
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("\x1b[2K") // behind a line that fills its row it would take the last letter
		b.Write(line)
	}
	b.WriteString("\x1b[J")
	s.frame.Reset()
	_, err := s.out.Write(b.Bytes())
	return err
}

// Close leaves the terminal with what was drawn, and the cursor below.
func (s *Screen) Close() error {
	_, err := s.out.WriteString("\r\n")
	return err
}

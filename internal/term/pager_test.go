// SPDX-License-Identifier: Apache-2.0

package term

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// saveTo is a pager that saves what it is given, and says how it was told to behave.
func saveTo(file string) []string {
	return []string{"sh", "-c", `echo "$LESS $LESSSECURE" >"$0"; exec cat >>"$0"`, file}
}

func write(t *testing.T, w io.Writer, lines int) (text string) {
	t.Helper()
	for i := range lines {
		line := fmt.Sprintf("line %d\n", i)
		text += line
		if _, err := io.WriteString(w, line); err != nil {
			t.Fatal(err)
		}
	}
	return text
}

// What is longer than the terminal goes through the pager whole, and nothing else does.
func TestPager(t *testing.T) {
	t.Setenv("LESS", "")
	for _, lines := range []int{0, 1, 9, 10, 11, 1000} { // of 10 rows one is the prompt's
		tty, master := openBothEnds(t)
		file := filepath.Join(t.TempDir(), "paged")
		p := NewPager(tty, saveTo(file))
		if !IsTerminal(p) || Width(p) != 97 {
			t.Errorf("terminal %v of %d columns, want that of its file", IsTerminal(p), Width(p))
		}
		want := write(t, p, lines)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		paged, err := os.ReadFile(file)
		if lines >= 10 {
			if err != nil || string(paged) != "FRSXMK 1\n"+want {
				t.Errorf("%d lines: the pager got %d bytes, %v, want %d", lines, len(paged), err, len(want))
			}
			continue
		}
		if err == nil {
			t.Errorf("%d lines: the pager was started", lines)
		}
		if got := readLines(t, master, lines); got != want {
			t.Errorf("%d lines: the terminal got %q", lines, got)
		}
	}
}

// readLines reads so many lines from the other end of a terminal.
func readLines(t *testing.T, master *os.File, lines int) (text string) {
	t.Helper()
	_ = master.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 1)
	for strings.Count(text, "\n") < lines {
		if _, err := master.Read(buf); err != nil {
			t.Fatalf("after %q: %v", text, err)
		}
		if buf[0] != '\r' {
			text += string(buf)
		}
	}
	return text
}

// A reader who has seen enough ends the writing.
func TestPagerLeft(t *testing.T) {
	p := NewPager(openTerminal(t), []string{"true"})
	line := []byte(strings.Repeat("x", 4096) + "\n")
	var err error
	for i := 0; err == nil && i < 10_000; i++ { // more than a pipe holds
		_, err = p.Write(line)
	}
	if !errors.Is(err, ErrPagerLeft) {
		t.Errorf("got %v, want ErrPagerLeft", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestPagerCommand(t *testing.T) {
	for _, tt := range []struct {
		own, pager string
		want       []string
	}{
		{"most -s", "less", []string{"most", "-s"}},
		{"cat", "less", nil},
		{"", "less", nil},
		{"unset", "more", []string{"more"}},
		{"unset", "", nil},
	} {
		t.Setenv("ABOT_TRACE_PAGER", tt.own)
		t.Setenv("PAGER", tt.pager)
		if tt.own == "unset" {
			os.Unsetenv("ABOT_TRACE_PAGER")
		}
		if got := PagerCommand(); !slices.Equal(got, tt.want) {
			t.Errorf("ABOT_TRACE_PAGER=%q PAGER=%q: got %q, want %q", tt.own, tt.pager, got, tt.want)
		}
	}
}

// Each frame stands in place of the last, in no more rows than the terminal has.
func TestScreen(t *testing.T) {
	tty, master := openBothEnds(t)
	s := NewScreen(tty)
	for _, lines := range []int{3, 30} {
		write(t, s, lines)
		if err := s.Show(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Of the first frame two lines are ended, of the second nine, and Close ends one.
	got := readLines(t, master, 2+9+1)
	frames := strings.Split(got, "\x1b[H")
	if len(frames) != 3 || frames[0] != "\x1b[2J" {
		t.Fatalf("got %q, want one screen that is cleared and two frames", got)
	}
	if want := "\x1b[2Kline 0\n\x1b[2Kline 1\n\x1b[2Kline 2\x1b[J"; frames[1] != want {
		t.Errorf("got %q, want %q", frames[1], want)
	}
	if n := strings.Count(frames[2], "\x1b[2K"); n != 10 || !strings.HasSuffix(frames[2], "\x1b[2K21 more lines\x1b[J\n") {
		t.Errorf("got %d rows, want 10 and the count of the rest: %q", n, frames[2])
	}
}

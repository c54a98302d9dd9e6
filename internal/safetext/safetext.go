// SPDX-License-Identifier: Apache-2.0

// Package safetext makes text that other processes chose (names, command lines,
// paths) safe to show: it can forge neither a line, a field nor a terminal
// sequence, and likely secrets in command lines are hidden.
//
// What it returns is for people. It is not an encoding that can be reversed: a
// name that holds a backslash and an n reads like one that holds a newline.
package safetext

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is how many combining marks one character may carry; more of them
// paint over the neighbouring lines of a terminal.
const maxMarks = 4

// Terminal returns s as one line of printable text: control characters, newlines,
// escapes, bidirectional and zero-width characters, unassigned code points,
// blanks other than the space, and bytes that are not UTF-8 become \n, \x1b,
// \u202e and the like. It is idempotent, and returns s itself where there is
// nothing to do.
func Terminal(s string) string {
	return escape(s, true)
}

// Name returns a process's name as Terminal does, for a sentence or a column: it may hold
// spaces, as "tmux: client" does, but none that could end a column or pass for a margin,
// which become \x20. The empty string becomes "-".
func Name(s string) string {
	if s == "" {
		return "-"
	}
	s = Terminal(s)
	if !strings.HasPrefix(s, " ") && !strings.HasSuffix(s, " ") && !strings.Contains(s, "  ") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if s[i] == ' ' && (i == 0 || i == len(s)-1 || s[i-1] == ' ' || s[i+1] == ' ') {
			b.WriteString(`\x20`)
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// Field returns s as Terminal does and with its spaces as \x20 too: one word, for
// a column or a key=value pair that others follow. The empty string becomes "-".
func Field(s string) string {
	if s == "" {
		return "-"
	}
	return escape(s, false)
}

// escape returns s itself up to the first character that needs a new form.
func escape(s string, spaces bool) string {
	clean := cleanPrefix(s, spaces)
	if clean == len(s) {
		return s
	}
	// The text may begin with a mark that has nothing to sit on.
	marks := maxMarks
	var out []byte
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && n == 1:
			out = appendByte(out, s[i])
		case r == ' ' && !spaces, marks > maxMarks, !visible(r):
			out = appendRune(out, r)
		default:
			out = append(out, s[i:i+n]...)
		}
		i += n
	}
	return string(out)
}

// cleanPrefix returns how many bytes of s are plain ASCII that needs no escape.
func cleanPrefix(s string, spaces bool) int {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == ' ' && !spaces {
			return i
		}
	}
	return len(s)
}

// visible reports whether r shows as itself and changes nothing around it.
func visible(r rune) bool {
	const brailleBlank = '\u2800'
	return unicode.IsPrint(r) && r != brailleBlank &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) &&
		!unicode.Is(unicode.Variation_Selector, r)
}

const hexDigits = "0123456789abcdef"

func appendByte(out []byte, b byte) []byte {
	return append(out, '\\', 'x', hexDigits[b>>4], hexDigits[b&0xf])
}

// appendRune writes r in the escapes that C, Go and bash's $'...' share.
func appendRune(out []byte, r rune) []byte {
	switch r {
	case '\n':
		return append(out, '\\', 'n')
	case '\t':
		return append(out, '\\', 't')
	case '\r':
		return append(out, '\\', 'r')
	}
	if r < utf8.RuneSelf {
		return appendByte(out, byte(r))
	}
	width, form := 4, byte('u')
	if r > 0xffff {
		width, form = 8, 'U'
	}
	out = append(out, '\\', form)
	for shift := 4 * (width - 1); shift >= 0; shift -= 4 {
		out = append(out, hexDigits[r>>shift&0xf])
	}
	return out
}

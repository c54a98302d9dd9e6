// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"unicode"
)

// source is one file's text, kept for the excerpts of errors.
type source struct {
	name  string
	lines []string
}

func newSource(name string, data []byte) *source {
	return &source{name, strings.Split(string(data), "\n")}
}

// Pos is where a value stands. The zero Pos means that the file does not set it.
type Pos struct {
	src          *source
	Line, Column int // from 1
}

// IsSet reports whether a file set the value.
func (p Pos) IsSet() bool { return p.src != nil }

// An Error is one fault of a configuration, with where it is.
type Error struct {
	Pos
	Message string
}

// File returns the name of the file as it was given to Load.
func (e *Error) File() string {
	if e.src == nil {
		return ""
	}
	return e.src.name
}

// Error returns "file:line:column: message" and, below it, the line with a caret.
func (e *Error) Error() string {
	if e.src == nil {
		return e.Message
	}
	if e.Line == 0 { // it concerns the whole file
		return fmt.Sprintf("%s: %s", e.src.name, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", e.src.name, e.Line, e.Column, e.Message, e.excerpt())
}

// excerptWidth is how much of a long line an excerpt shows.
const excerptWidth = 100

func (e *Error) excerpt() string {
	if e.Line == 0 || e.Line > len(e.src.lines) {
		return ""
	}
	line := []rune(e.src.lines[e.Line-1])
	if len(strings.TrimSpace(string(line))) == 0 {
		return ""
	}
	column := min(max(e.Column-1, 0), len(line))
	from := 0
	if len(line) > excerptWidth && column > excerptWidth/2 {
		from = min(column-excerptWidth/2, len(line)-excerptWidth)
	}
	shown := line[from:min(from+excerptWidth, len(line))]
	number := fmt.Sprintf("%5d", e.Line)
	return fmt.Sprintf("\n%s | %s\n%s | %s^", number, printable(shown),
		strings.Repeat(" ", len(number)), strings.Repeat(" ", column-from))
}

// printable replaces what could disturb a terminal, one rune for one.
func printable(line []rune) string {
	return strings.TrimRight(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '�'
		}
		return r
	}, string(line)), " ")
}

// Errors are all the faults of a configuration, in the order of the files.
type Errors []*Error

// Error joins the faults, one after the other.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "\n")
}

// maxErrors is how many faults are told at most.
const maxErrors = 20

// report collects faults.
type report struct{ errs Errors }

func (r *report) add(at Pos, format string, args ...any) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, &Error{at, fmt.Sprintf(format, args...)})
	}
}

// err returns the faults as an error, or nil.
func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs
}

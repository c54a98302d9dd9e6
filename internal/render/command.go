// SPDX-License-Identifier: Apache-2.0

package render

import (
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/abot-trace/abot-trace/internal/program"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// commandCell is a process's command line, which loses the heads of paths before it
// loses what follows them.
func commandCell(p *wire.Process) Cell {
	return Cell{Text: Command(p), Fit: func(width int) string { return FitCommand(p.Cmdline, Command(p), width) }}
}

// FitCommand returns a command line in at most width columns: whole, or with the base
// name of its program, then also that of its script, and at last with its end cut.
// fallback is printed where there is no command line; it is cut only.
func FitCommand(cmdline []string, fallback string, width int) string {
	if len(cmdline) == 0 {
		return cutDisplay(fallback, width)
	}
	if whole := safetext.Args(cmdline); displayWidth(whole) <= width {
		return whole
	}
	short := slices.Clone(cmdline)
	short[0] = baseName(short[0])
	if whole := safetext.Args(short); displayWidth(whole) <= width {
		return whole
	}
	return cutDisplay(shortCommand(cmdline), width)
}

// shortCommand is a command line with the base names of its program and its script.
func shortCommand(cmdline []string) string {
	short := slices.Clone(cmdline)
	short[0] = baseName(short[0])
	p := program.Of(cmdline, "", "")
	if i := slices.Index(short, p.Script); i > 0 {
		short[i] = baseName(short[i])
	}
	return safetext.Args(short)
}

// baseName is the last part of a path; a text with blanks is none.
func baseName(file string) string {
	if base := path.Base(file); base != "." && base != "/" && !strings.ContainsFunc(file, unicode.IsSpace) {
		return base
	}
	return file
}

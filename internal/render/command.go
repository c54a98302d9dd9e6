// SPDX-License-Identifier: Apache-2.0

package render

import (
	"path"
	"slices"

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
	whole := safetext.Args(cmdline)
	short := slices.Clone(cmdline)
	for _, shorten := range []func(){
		func() {},
		func() { short[0] = baseName(short[0]) },
		func() {
			p := program.Of(cmdline, "", "")
			if i := slices.Index(short, p.Script); i > 0 {
				short[i] = baseName(short[i])
			}
		},
	} {
		shorten()
		if whole = safetext.Args(short); displayWidth(whole) <= width {
			return whole
		}
	}
	return cutDisplay(whole, width)
}

func baseName(file string) string {
	if base := path.Base(file); base != "." && base != "/" {
		return base
	}
	return file
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/abot-trace/abot-trace/internal/term"
)

// A timeProgress tells on a terminal how far a long reading has come.
type timeProgress struct {
	w     io.Writer // nil where nobody looks
	told  time.Time
	shown bool
}

func newTimeProgress(w io.Writer) *timeProgress {
	if !term.IsTerminal(w) {
		w = nil
	}
	return &timeProgress{w: w, told: time.Now()}
}

// at tells the time that the reading has come to, now and then.
func (p *timeProgress) at(t time.Time) {
	if p.w == nil || time.Since(p.told) < 200*time.Millisecond {
		return
	}
	p.told, p.shown = time.Now(), true
	fmt.Fprintf(p.w, "\r%s\x1b[K", t.Local().Format(time.DateTime))
}

// end clears the line.
func (p *timeProgress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

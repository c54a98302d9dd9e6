// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"strings"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// maxShownLocks is how many locks are named.
const maxShownLocks = 8

// holdings says in a phrase each what processes keep from others, and what was not read.
func holdings(h *wire.Holds) (lines []string) {
	if h == nil {
		return nil
	}
	for _, p := range h.Ports {
		lines = append(lines, address(p))
	}
	for _, g := range h.GPUs {
		text := "device " + safetext.Field(g.Device)
		if g.Bytes != nil {
			text += ", " + quantity.FormatSize(*g.Bytes) + " of its memory"
		}
		lines = append(lines, text)
	}
	if h.DeletedBytes > 0 {
		lines = append(lines, quantity.FormatSize(h.DeletedBytes)+" of deleted files")
	}
	if h.SharedBytes > 0 {
		lines = append(lines, quantity.FormatSize(h.SharedBytes)+" of shared memory")
	}
	for _, l := range h.Locks[:min(len(h.Locks), maxShownLocks)] {
		lines = append(lines, fmt.Sprintf("lock %s %s on %s", safetext.Field(l.Type), safetext.Field(strings.ToLower(l.Mode)), safetext.Terminal(l.Path)))
	}
	if more := len(h.Locks) - maxShownLocks; more > 0 {
		lines = append(lines, fmt.Sprintf("%d locks more", more))
	}
	if len(h.Unread) > 0 {
		lines = append(lines, "not read: "+safetext.Terminal(strings.Join(h.Unread, "; ")))
	}
	return lines
}

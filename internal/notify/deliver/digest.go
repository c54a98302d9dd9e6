// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// What one target is told of leaks that are opened: so many in a minute one by one, the rest
// as one digest when the minute is over.
const (
	digestAfter  = 5
	digestPeriod = time.Minute
	// maxHidden is how many leaks are remembered that a target was told of in digests only:
	// it is not told of their ends either. Those beyond are.
	maxHidden = 4096
	// maxGroups is how many names a digest counts one by one.
	maxGroups = 5
)

// A digest is what one target was told of leaks lately. One goroutine uses it.
type digest struct {
	began  time.Time // of the minute
	told   int       // openings in it
	host   string
	left   map[string]*leftOut // by name
	hidden map[string]bool     // ids of leaks
	timer  *time.Timer
}

// leftOut counts openings of one name that the target is told of in the digest.
type leftOut struct {
	leaks, processes int
	bytes            uint64
}

// admit reports whether the target is to be told of the notice by itself.
func (d *digest) admit(n *notify.Notice, now time.Time) bool {
	l := n.Event.Leak
	switch {
	case l == nil:
		return true
	case l.Change != wire.LeakOpened:
		hidden := d.hidden[l.ID]
		if l.Change == wire.LeakEnded {
			delete(d.hidden, l.ID)
		}
		return !hidden
	}
	if now.Sub(d.began) >= digestPeriod && d.left == nil {
		d.began, d.told = now, 0
	}
	if d.told < digestAfter {
		d.told++
		return true
	}
	d.leaveOut(n, now)
	return false
}

func (d *digest) leaveOut(n *notify.Notice, now time.Time) {
	l := n.Event.Leak
	if d.left == nil {
		d.left, d.host = make(map[string]*leftOut), n.Host
		d.timer = time.NewTimer(max(0, digestPeriod-now.Sub(d.began)))
	}
	name := cmp.Or(l.Program, l.Name, l.Leaker.Comm)
	if d.left[name] == nil && len(d.left) >= maxHidden {
		name = "others"
	}
	g := d.left[name]
	if g == nil {
		g = &leftOut{}
		d.left[name] = g
	}
	g.leaks++
	g.processes += l.Processes.Now
	for _, part := range []*uint64{l.RSSBytes, l.SwapBytes} {
		if part != nil {
			g.bytes += *part
		}
	}
	if d.hidden == nil {
		d.hidden = make(map[string]bool)
	}
	if len(d.hidden) < maxHidden {
		d.hidden[l.ID] = true
	}
}

// due is ready when the minute is over and there is a digest to tell; nil while there is none.
func (d *digest) due() <-chan time.Time {
	if d.left == nil {
		return nil
	}
	return d.timer.C
}

// take returns the digest and begins another minute; nil where there is nothing to tell.
func (d *digest) take() *notify.Notice {
	if d.left == nil {
		return nil
	}
	d.timer.Stop()
	names := slices.SortedFunc(maps.Keys(d.left), func(a, b string) int {
		return cmp.Or(-cmp.Compare(d.left[a].leaks, d.left[b].leaks), strings.Compare(a, b))
	})
	var sum leftOut
	var parts []string
	for i, name := range names {
		g := d.left[name]
		sum.leaks, sum.processes, sum.bytes = sum.leaks+g.leaks, sum.processes+g.processes, sum.bytes+g.bytes
		if i < maxGroups {
			parts = append(parts, fmt.Sprintf("%d of %s", g.leaks, safetext.Terminal(name)))
		}
	}
	if more := len(names) - maxGroups; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d other programs", more))
	}
	text := fmt.Sprintf("%d more leaks were opened within a minute: %s: %d processes", sum.leaks, strings.Join(parts, ", "), sum.processes)
	if sum.bytes > 0 {
		text += ", " + quantity.FormatSize(sum.bytes)
	}
	text += "; see abot-trace leaks --by program"
	now := time.Now()
	count := float64(sum.leaks)
	d.left, d.began, d.told = nil, now, 0
	return &notify.Notice{Severity: notify.SeverityWarning, Host: d.host, Text: text, Event: notify.Event{Schema: wire.Schema,
		ID: fmt.Sprintf("digest-%d", now.UnixNano()), Time: now, Type: wire.TypeAlert,
		Alert: &wire.Alert{Name: "leaks", State: wire.AlertWarning, Since: now, Value: &count, Message: text}}}
}

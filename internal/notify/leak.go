// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leak adds the fields of a leak, which is about a dead process: it has no ABOT_PID.
func (b *builder) leak(l *wire.Leak) {
	b.text("ABOT_LEAK_ID", l.ID)
	b.raw("ABOT_LEAK_CHANGE", l.Change)
	b.text("ABOT_FINGERPRINT", l.Fingerprint)
	b.raw("ABOT_VERDICT", l.Verdict)
	for _, line := range l.Evidence[:min(len(l.Evidence), maxList)] {
		b.text("ABOT_EVIDENCE", line)
	}
	b.text("ABOT_CMDLINE", l.Name)
	b.raw("ABOT_LEAKER_PID", strconv.Itoa(int(l.Leaker.PID)))
	b.text("ABOT_LEAKER_COMM", l.Leaker.Comm)
	b.text("ABOT_LEAKER_EXIT", exitText(l.Leaker.Exit))
	b.text("ABOT_USER", l.Leaker.User)
	b.text("ABOT_UNIT", l.Leaker.Unit)
	b.container(l.Leaker.Container, l.Leaker.ContainerName, l.Leaker.ContainerImage, l.Leaker.Pod)
	b.raw("ABOT_PROCESSES", strconv.Itoa(l.Processes.Now))
	if held := memoryOf(l); held != nil {
		b.raw("ABOT_MEMORY_BYTES", strconv.FormatUint(*held, 10))
	}
}

// memoryOf is what a leak holds, or held at most when it has ended; nil where that is not
// known.
func memoryOf(l *wire.Leak) *uint64 {
	if l.RSSBytes == nil || l.State == wire.LeakStateEnded {
		return l.PeakBytes
	}
	held := *l.RSSBytes
	if l.SwapBytes != nil {
		held += *l.SwapBytes
	}
	return &held
}

// LeakSummary tells of a leak in one line: what, where, how it came about, what it holds,
// and what to type next.
func LeakSummary(l *wire.Leak) string {
	name := safetext.Terminal(cmp.Or(l.Name, l.Leaker.Comm))
	s := "leak " + l.ID + " of " + name + whose(cmp.Or(l.Leaker.ContainerName, l.Leaker.Container), l.Leaker.Unit, l.Leaker.User)
	switch l.Change {
	case wire.LeakEnded:
		return s + endedText(l)
	case wire.LeakVerdict:
		s += " is " + l.Verdict + ", was " + l.Previous
	case wire.LeakThreshold:
		s += " passes the threshold of its " + l.Threshold
	case wire.LeakOpened:
		s += ", left by pid " + strconv.Itoa(int(l.Leaker.PID))
		if how := exitText(l.Leaker.Exit); how != "" {
			s += " (" + how + ")"
		}
		s += ": " + l.Verdict
		if len(l.Evidence) > 0 {
			s += ", " + safetext.Terminal(l.Evidence[0])
		}
	}
	return s + ": " + heldText(l) + "; see abot-trace explain " + l.ID
}

func heldText(l *wire.Leak) string {
	s := quantity.Count(l.Processes.Now, "process")
	if held := memoryOf(l); held != nil {
		s += ", " + quantity.FormatSize(*held)
	}
	return s
}

func endedText(l *wire.Leak) string {
	s := " has ended"
	if by := map[string]string{"exit": "by itself", "kill": "by a kill", "oom": "by the OOM killer", "signal": "by a signal",
		"mixed": "in several ways"}[l.EndedBy]; by != "" {
		s += " " + by
	}
	s += fmt.Sprintf(" after %s: %s", quantity.FormatDuration(time.Duration(l.EndedNS-l.OpenedNS).Round(time.Second)),
		quantity.Count(l.Processes.Total, "process"))
	if l.PeakBytes != nil {
		s += ", " + quantity.FormatSize(*l.PeakBytes) + " at most"
	}
	return s
}

// LeakFacts are what is to be known of a leak, one by one, in the order of their weight: what
// it is a case of, where it ran and as whom, how the leaker died, what lives and holds memory,
// the verdict with the deciding fact, and what to type next. Values are printable.
func LeakFacts(l *wire.Leak) (facts []Field) {
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, Field{name, printable(value)})
		}
	}
	add("Command", cmp.Or(commandLine(l.Leaker.Cmdline), l.Name, l.Leaker.Comm))
	add("Container", cmp.Or(l.Leaker.ContainerName, l.Leaker.Container))
	add("Image", l.Leaker.ContainerImage)
	add("Pod", l.Leaker.Pod.FullName())
	add("Unit", l.Leaker.Unit)
	add("User", l.Leaker.User)
	add("Died", exitText(l.Leaker.Exit))
	add("Holds", heldText(l))
	verdict := l.Verdict
	if len(l.Evidence) > 0 {
		verdict += ": " + l.Evidence[0]
	}
	add("Verdict", verdict)
	add("Next", "abot-trace explain "+l.ID)
	return facts
}

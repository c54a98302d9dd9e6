// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Status prints on one screen how the daemon is, what is armed and what is going on, and
// what to do about what is not well.
func Status(w io.Writer, s *wire.Status, now time.Time, style Style) error {
	p := paragraphs{style: style, indent: 11}
	state := style.paint(green, "well")
	if n := len(s.Problems); n > 0 {
		state = style.paint(red, quantity.Count(n, "problem"))
	}
	fmt.Fprintf(&p.text, "%s on %s: %s\n", style.paint(bold, "abot-trace"), safetext.Field(s.Host), state)
	p.add("daemon", fmt.Sprintf("%s, pid %d, up %s", safetext.Field(s.Version), s.Stream.PID, Since(now, &s.Stream.StartedAt)))
	p.add("stream", streamStatus(&s.Stream, now))
	p.add("rules", ruleStatus(s.Rules))
	p.add("stop file", stopStatus(s.Stop, now))
	if h := s.Hold; h != nil {
		p.add("held", fmt.Sprintf("no rule ends anything for another %s, after a %s", quantity.FormatDuration(h.Until.Sub(now).Round(time.Second)), safetext.Terminal(h.After)))
	}
	p.add("leaks", leakStatus(&s.Leaks))
	addDecided(&p, &s.Decided)
	p.add("history", historyStatus(s.History, now))
	for _, n := range s.Notices {
		p.add("notices", noticeStatus(&n))
	}
	if k := s.LastKill; k == nil {
		p.add("last kill", "none is remembered")
	} else {
		p.add("last kill", fmt.Sprintf("%s ago, %s (%s)", Since(now, &k.Time), safetext.Terminal(aboutKill(&k.Kill)), safetext.Field(k.KillID)))
	}
	for _, problem := range s.Problems {
		p.color = red
		p.add("problem", safetext.Terminal(problem.What))
		p.color = plain
		if problem.Hint != "" {
			p.add("", safetext.Terminal(problem.Hint))
		}
	}
	_, err := io.WriteString(w, p.text.String())
	return err
}

func streamStatus(s *wire.StatusStream, now time.Time) string {
	text := "not proven yet"
	if s.SeenAt != nil {
		text = "alive " + Since(now, s.SeenAt) + " ago"
	}
	lost := "no record lost"
	if s.Lost > 0 {
		lost = fmt.Sprintf("%d records lost", s.Lost)
	}
	return fmt.Sprintf("%s, %s; %s, %s", text, lost, quantity.Count(s.Processes, "process"), quantity.Count(s.Orphans, "orphan"))
}

func historyStatus(h *wire.StatusHistory, now time.Time) string {
	switch {
	case h == nil:
		return "none is kept"
	case h.Stream.Since == nil:
		return "nothing is kept yet"
	}
	text := fmt.Sprintf("%s back, %s of %s", Since(now, h.Stream.Since), quantity.FormatSize(h.Stream.Bytes), quantity.FormatSize(h.Stream.LimitBytes))
	if h.Lost > 0 {
		text += fmt.Sprintf(", %d entries lost", h.Lost)
	}
	return text
}

// History prints what is kept of the past.
func History(w io.Writer, h *wire.StatusHistory, now time.Time, style Style) error {
	p := paragraphs{style: style, indent: 11}
	p.add("stream", keptText(&h.Stream, now))
	p.add("notable", keptText(&h.Notable, now))
	lost := "none"
	if h.Lost+h.Damaged > 0 {
		lost = fmt.Sprintf("%d entries that the disk did not take, %d that it did not give back", h.Lost, h.Damaged)
	}
	p.add("lost", lost)
	if h.SetAside > 0 {
		p.add("set aside", quantity.Count(int(h.SetAside), "segment")+" of no use: damaged, or another machine's")
	}
	if h.Error != "" {
		p.color = red
		p.add("problem", safetext.Terminal(h.Error))
	}
	_, err := io.WriteString(w, p.text.String())
	return err
}

func keptText(k *wire.StatusKept, now time.Time) string {
	limits := fmt.Sprintf("%s of %s, at most %s", quantity.FormatSize(k.Bytes), quantity.FormatSize(k.LimitBytes),
		quantity.FormatDuration(quantity.Seconds(k.LimitAge)))
	if k.Since == nil {
		return "nothing is kept yet; " + limits
	}
	text := fmt.Sprintf("since %s (%s); %s", k.Since.Local().Format(time.DateTime), Since(now, k.Since), limits)
	if k.BytesPerDay != nil && k.SecondsLeft != nil {
		text += fmt.Sprintf("; %s a day", quantity.FormatSize(uint64(*k.BytesPerDay)))
		if left := quantity.Seconds(*k.SecondsLeft); *k.SecondsLeft > 0 && k.LimitAge > *k.SecondsLeft {
			text += ", full in " + quantity.FormatDuration(left.Round(time.Minute))
		}
	}
	return text
}

func ruleStatus(rules []wire.StatusRule) string {
	var armed, observing, notifying []string
	for _, r := range rules {
		name := safetext.Field(r.Name)
		switch {
		case r.Action == "notify":
			notifying = append(notifying, name)
		case r.Mode == wire.ModeEnforce && r.Kills > 0:
			armed = append(armed, fmt.Sprintf("%s (ended %d)", name, r.Kills))
		case r.Mode == wire.ModeEnforce:
			armed = append(armed, name)
		case r.WouldKill > 0:
			observing = append(observing, fmt.Sprintf("%s (would have ended %d)", name, r.WouldKill))
		default:
			observing = append(observing, name)
		}
	}
	if len(rules) == 0 {
		return "none"
	}
	var parts []string
	for _, group := range []struct {
		word  string
		names []string
	}{{"armed", armed}, {"observing", observing}, {"notifying", notifying}} {
		if n := len(group.names); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s: %s", n, group.word, strings.Join(group.names, ", ")))
		}
	}
	return strings.Join(parts, "; ")
}

func stopStatus(s *wire.Stop, now time.Time) string {
	switch {
	case s == nil:
		return "none is configured"
	case !s.InForce:
		return safetext.Terminal(s.Path) + " is not there"
	}
	text := safetext.Terminal(s.Path) + " is there"
	if s.Since != nil {
		text += ", since " + Since(now, s.Since)
	}
	return text + ": no rule ends anything"
}

func leakStatus(l *wire.StatusLeaks) string {
	if l.Open == 0 {
		return "none is open"
	}
	return fmt.Sprintf("%d open, %d of them leaked: %s %s", l.Open, l.Leaked, holding(l.Processes), Bytes(l.RSSBytes+l.SwapBytes))
}

// shownDecided is how many decisions stand on the one screen.
const shownDecided = 6

// addDecided tells what was decided about leaks; nothing where nothing was.
func addDecided(p *paragraphs, d *wire.StatusDecided) {
	for i := range d.List[:min(len(d.List), shownDecided)] {
		p.add("decided", trust.Sentence(&d.List[i]))
	}
	if more := d.Acked + d.Ignored + d.Suspended - shownDecided; more > 0 {
		p.add("decided", fmt.Sprintf("and %d more: abot-trace leaks export lists them", more))
	}
}

func noticeStatus(n *wire.StatusNotices) string {
	text := fmt.Sprintf("%s: %d delivered", safetext.Field(n.Target), n.Delivered)
	if n.Failed > 0 {
		text += fmt.Sprintf(", %d failed", n.Failed)
	}
	if n.Dropped > 0 {
		text += fmt.Sprintf(", %d dropped", n.Dropped)
	}
	return text
}

// Paragraphs are texts beside their names, wrapped between words at the style's width.
type paragraphs struct {
	style  Style
	indent int
	color  color // of the texts
	last   string
	text   strings.Builder
}

// add adds a paragraph. A name that is repeated is left out.
func (p *paragraphs) add(name, text string) {
	shown := name
	if name == p.last {
		shown = ""
	}
	p.last = name
	room := 1 << 20
	if p.style.Width > 0 {
		room = max(p.style.Width-p.indent, minFlex)
	}
	for _, line := range wrap(text, room) {
		fmt.Fprintf(&p.text, "%-*s%s\n", p.indent, shown, p.style.paint(p.color, line))
		shown = ""
	}
}

// wrap breaks text into lines of at most width columns, between words where it can.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		for displayWidth(word) > width {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			head := displayed.Truncate(word, width, "")
			if head == "" {
				break
			}
			lines, word = append(lines, head), word[len(head):]
		}
		switch {
		case line == "":
			line = word
		case displayWidth(line)+1+displayWidth(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// maxAlerts is how many problems are drawn above something else.
const maxAlerts = 3

// Alerts draws what is not well, above something else, and returns in how many lines.
func Alerts(w io.Writer, s *wire.Status, style Style) (lines int, err error) {
	var texts []string
	for _, problem := range s.Problems {
		texts = append(texts, problem.What)
	}
	if more := len(texts) - maxAlerts + 1; more > 1 {
		texts = append(texts[:maxAlerts-1], fmt.Sprintf("%d more problems: abot-trace status", more))
	}
	for _, text := range texts {
		if _, err := fmt.Fprintln(w, style.paint(red, cut("! "+safetext.Terminal(text), style.Width))); err != nil {
			return 0, err
		}
	}
	return len(texts), nil
}

// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// circumstances lists every fact worth printing, whatever it was that decided.
func circumstances(f *Facts) (lines []string) {
	add := func(more ...string) {
		for _, line := range more {
			if line != "" {
				lines = append(lines, line)
			}
		}
	}
	if f.Leaker.StatusKnown {
		add(f.end(), f.asked())
		if f.Leaker.NeverExeced {
			add(f.who() + " never executed a program since its own fork")
		}
	}
	if !f.Direct && f.Above != nil {
		add(fmt.Sprintf("it is stranded: its spawner %s lives, its ancestor died", f.Above.who()))
	}
	add(f.signLines()...)
	if f.Abandoned() {
		add("nobody is at the other end of its " + f.abandonedNames())
	}
	add(f.owner(), f.ownPlace(), f.unitLine())
	if f.MarksKnown && f.Leash && !f.LeaseEnded {
		add("ABOT_TRACE_LEASH=1 is in its environment")
	}
	if f.AdopterComm != "" {
		add(fmt.Sprintf("adopted by %s%s", f.AdopterComm, role(f.AdopterKind)))
	}
	add(f.blind(), f.doubt())
	for _, err := range f.Errors {
		add("a fact could not be read: " + err)
	}
	return dedupe(lines)
}

// signLines tells the signs of detaching, or that there is none.
func (f *Facts) signLines() (lines []string) {
	if !f.NowKnown || !f.LaunchKnown || f.Executed && !f.ExecKnown {
		return nil
	}
	own, prepared := f.ownSigns(), f.preparedSigns()
	lines = append(own.own(), prepared.prepared()...)
	if len(lines) == 0 && f.Now.StdioKnown && f.Launch.StdioKnown {
		lines = append(lines, "no sign of detaching: it leads no new session, does not ignore SIGHUP, and has not replaced its standard input, output and error")
	}
	if f.Now.Tty {
		lines = append(lines, "it has a controlling terminal")
	}
	return lines
}

func (f *Facts) unitLine() string {
	u := &f.Unit
	switch {
	case u.Name == "" || u.Main || u.Control || u.Candidate:
		return ""
	case u.Known:
		return fmt.Sprintf("its cgroup belongs to the unit %s (%s, KillMode=%s), whose main process it is not", u.Name, u.State, u.KillMode)
	case u.User:
		return fmt.Sprintf("its cgroup belongs to the user's unit %s, whose manager did not spawn it", u.Name)
	}
	return "its cgroup belongs to the unit " + u.Name
}

// who says what the leaker was to the orphan.
func (f *Facts) who() string {
	switch {
	case f.Tied:
		return "who lived above its launcher"
	case !f.Direct:
		return "its ancestor"
	}
	return "its spawner"
}

// end tells how the leaker ended, who did it, and how long after the orphan's fork.
func (f *Facts) end() string {
	l, lived := &f.Leaker, f.Lived
	who := f.who()
	if l.PID != 0 {
		who += fmt.Sprintf(", pid %d (%s),", l.PID, l.Comm)
	}
	how := "left with exit code 0"
	switch {
	case l.OOM:
		how = "was killed by the OOM killer"
	case l.Status.Signaled():
		how = "was killed by " + l.Status.String()
	case l.Status.Code() != 0:
		how = fmt.Sprintf("failed with exit code %d", l.Status.Code())
	}
	line := who + " " + how
	if !l.OOM && l.Status.Signaled() {
		line += l.Signal.by()
	}
	if lived > 0 {
		line += fmt.Sprintf(", %s after the fork", roundDuration(lived))
	}
	return line
}

// asked tells by whom the leaker was asked to end before.
func (f *Facts) asked() string {
	l := &f.Leaker
	if l.Asked.Signal == 0 {
		return ""
	}
	return fmt.Sprintf("%s had been asked to end by %s%s, %s before", f.who(), event.SignalName(l.Asked.Signal),
		l.Asked.by(), roundDuration(l.Asked.Ago))
}

// by tells who sent it, and what that one was to the target.
func (s *Sent) by() string {
	from := ""
	if s.Who != "" {
		from = ", sent by " + s.Who
	}
	switch s.By {
	case ByTerminal:
		return ", sent by its terminal"
	case ByItself:
		return ", raised by itself"
	case ByManager:
		return from + ", the init or service manager above it"
	case BySpawner:
		return from + ", which had spawned it"
	}
	return from
}

func (a *Above) who() string { return fmt.Sprintf("pid %d (%s)", a.PID, a.Comm) }

func (u *Unit) name() string {
	if u.Name == "" {
		return "(name not known)"
	}
	return u.Name
}

// abandonedNames names the descriptors at whose other ends nobody is.
func (f *Facts) abandonedNames() string {
	var names []string
	for fd, name := range [...]string{"standard input", "standard output", "standard error"} {
		if f.Ends[fd] == EndAbandoned {
			names = append(names, name)
		}
	}
	return strings.Join(names, " and ")
}

func role(a event.Adopter) string {
	if a == event.AdopterUnknown {
		return ""
	}
	return " (" + a.String() + ")"
}

// roundDuration keeps about three digits.
func roundDuration(d time.Duration) time.Duration {
	for unit := time.Microsecond; unit < time.Second; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d.Round(time.Second)
}

// dedupe drops repeated lines and keeps the order.
func dedupe(lines []string) []string {
	seen := make(map[string]bool, len(lines))
	kept := lines[:0]
	for _, line := range lines {
		if !seen[line] {
			seen[line] = true
			kept = append(kept, line)
		}
	}
	return kept
}

// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// The verdicts, as JSON and rules spell them.
const (
	Leaked     = wire.VerdictLeaked
	Deliberate = wire.VerdictDeliberate
	Unknown    = wire.VerdictUnknown
)

// Settles is how long after the orphaning an unknown verdict may become deliberate, when
// the orphan executes a program: `sh -c 'nohup cmd &'` may end before its child is nohup.
const Settles = 2 * time.Second

// Judge returns the verdict on an orphan and one sentence of evidence per fact, the
// deciding one first. It errs towards not killing: a probe that failed, a mark that
// could not be read or an edge that was not observed is never leaked. The names in f
// appear in the evidence as they are: the caller escapes them.
//
// The order is what makes it safe. The owner's own word (KEEP) comes first, then
// ownership by someone who lives, then a lease, then how the spawner ended and
// whether the orphan had begun to detach by then.
func Judge(f Facts) (verdict string, evidence []string) {
	verdict, because := decide(f)
	evidence = append(evidence, because)
	for _, line := range circumstances(f) {
		if line != because {
			evidence = append(evidence, line)
		}
	}
	return verdict, evidence
}

// decide returns the verdict and the one fact that settles it.
func decide(f Facts) (verdict, because string) {
	if f.MarksKnown && f.Keep {
		return Deliberate, "ABOT_TRACE_KEEP=1 in its environment says to keep it"
	}
	if owner := f.owner(); owner != "" {
		return Deliberate, owner
	}
	if doubt := f.doubt(); doubt != "" {
		return Unknown, doubt
	}
	if f.LeaseEnded {
		return Leaked, "the holder of its lease (ABOT_TRACE_LEASH=1) is dead"
	}
	if f.KillMode == "process" || f.KillMode == "none" {
		return Unknown, fmt.Sprintf("its unit %s has KillMode=%s, which leaves processes behind on purpose",
			f.unit(), f.KillMode)
	}
	return f.byEnd()
}

// byEnd weighs how the spawner ended against the signs of detaching.
func (f Facts) byEnd() (verdict, because string) {
	signs := f.signs()
	switch {
	case (f.Status.Signaled() || f.OOM) && len(signs) == 0 && f.UserService:
		return Unknown, fmt.Sprintf("its unit %s is a user manager's, which was not asked for its main process", f.unit())
	case (f.Status.Signaled() || f.OOM) && len(signs) == 0:
		return Leaked, f.end()
	case f.Status.Signaled() || f.OOM:
		return Unknown, "its spawner was killed, but it shows a sign of detaching: that could be either"
	case f.Status.Code() != 0:
		return Unknown, "its spawner failed: neither killed nor done"
	case len(signs) > 0:
		return Deliberate, signs[0]
	default:
		return Unknown, "its spawner left with exit code 0 and it shows no sign of detaching: that could be either"
	}
}

// owner says who that lives owns the orphan, or nothing.
func (f Facts) owner() string {
	switch {
	case f.MainPID:
		return fmt.Sprintf("it is the main process of the active unit %s", f.unit())
	case f.Starting:
		return fmt.Sprintf("its unit %s is still starting", f.unit())
	case f.ContainerInit:
		return "it is the init process of a container"
	case f.TmuxServer:
		return "it belongs to a live tmux or screen server"
	case f.LoginSession:
		return "it belongs to a live login session"
	}
	return ""
}

// doubt says why no leak can be told from the facts, or nothing.
func (f Facts) doubt() string {
	switch {
	case !f.Observed:
		return "who spawned it was not observed"
	case len(f.Errors) > 0:
		return "a probe failed: " + f.Errors[0]
	case !f.MarksKnown:
		return "the marks in its environment could not be read"
	case !f.StatusKnown:
		return "how its spawner ended is not known"
	case !f.AtForkKnown || !f.AtDeathKnown:
		return "its session and signal state at its spawner's death are not known"
	case !f.AtFork.StdioKnown || !f.AtDeath.StdioKnown:
		return "its standard input, output and error at its spawner's death are not known"
	}
	return ""
}

// signs lists the signs of detaching that the orphan showed when its spawner died.
func (f Facts) signs() (signs []string) {
	if f.AtDeath.SessionOwn {
		signs = append(signs, "it had become a session leader (setsid)")
	}
	if f.AtDeath.HupIgnored {
		if f.AtFork.HupIgnored {
			signs = append(signs, "it ignores SIGHUP, as its spawner did")
		} else {
			signs = append(signs, "it had begun to ignore SIGHUP (nohup)")
		}
	}
	switch {
	case f.stdioReplaced():
		signs = append(signs, "its standard input, output and error had been replaced by /dev/null or files of its own")
	case f.doubleFork():
		signs = append(signs, "it was forked without a terminal or output by a session leader that then left (double fork)")
	}
	return signs
}

// stdioReplaced reports whether all of 0, 1, 2 are /dev/null or regular files that
// the spawner did not have, and at least one is not what the orphan was born with:
// a worker of a service whose output goes to /dev/null has replaced nothing.
func (f Facts) stdioReplaced() bool {
	changed := false
	for fd, file := range f.AtDeath.Stdio {
		if !file.IsNull() && !(isRegular(file) && !had(f.AtFork.Stdio, file)) {
			return false
		}
		changed = changed || file != f.AtFork.Stdio[fd]
	}
	return changed
}

// doubleFork reports whether the spawner was the short-lived middle of a double fork
// that redirected everything before the second one. It says something only of a
// spawner that left with 0: the main process of any service leads a session too.
func (f Facts) doubleFork() bool {
	if f.Status != 0 || f.OOM || f.AtFork.Tty || f.LeakerPID == 0 || f.AtFork.Session != f.LeakerPID {
		return false
	}
	for _, file := range f.AtDeath.Stdio {
		if !file.IsNull() {
			return false
		}
	}
	return true
}

func isRegular(f event.File) bool { return f.Mode&unix.S_IFMT == unix.S_IFREG }

func had(stdio event.Stdio, f event.File) bool {
	for _, own := range stdio {
		if own.Dev == f.Dev && own.Ino == f.Ino {
			return true
		}
	}
	return false
}

// circumstances lists every fact worth printing, whatever it was that decided.
func circumstances(f Facts) (lines []string) {
	add := func(line string) {
		if line != "" {
			lines = append(lines, line)
		}
	}
	if f.StatusKnown {
		add(f.end())
	}
	if f.AtDeathKnown && f.AtForkKnown {
		signs := f.signs()
		lines = append(lines, signs...)
		if len(signs) == 0 && f.AtDeath.StdioKnown && f.AtFork.StdioKnown {
			add("no sign of detaching: it leads no session, does not ignore SIGHUP, and has not replaced its standard input, output and error")
		}
		if f.AtDeath.Tty {
			add("it had a controlling terminal")
		}
	}
	add(f.owner())
	if f.Unit != "" && !f.MainPID && !f.Starting && !f.UserService {
		add("its cgroup belongs to the unit " + f.Unit + ", whose main process it is not")
	}
	if f.MarksKnown && f.Leash && !f.LeaseEnded {
		add("ABOT_TRACE_LEASH=1 is in its environment")
	}
	if f.AdopterComm != "" {
		add(fmt.Sprintf("adopted by %s%s", f.AdopterComm, role(f.AdopterKind)))
	}
	add(f.doubt())
	for _, err := range f.Errors {
		add("a probe failed: " + err)
	}
	return dedupe(lines)
}

// end tells how the spawner ended, who did it, and how long after the fork.
func (f Facts) end() string {
	who := "its spawner"
	if f.LeakerPID != 0 {
		who = fmt.Sprintf("its spawner, pid %d (%s),", f.LeakerPID, f.LeakerComm)
	}
	how := "left with exit code 0"
	switch {
	case f.OOM:
		how = "was killed by the OOM killer"
	case f.Status.Signaled():
		how = "was killed by " + f.Status.String()
	case f.Status.Code() != 0:
		how = fmt.Sprintf("failed with exit code %d", f.Status.Code())
	}
	line := who + " " + how
	if f.KilledBy != "" {
		line += ", sent by " + f.KilledBy
	}
	if f.Lived > 0 {
		line += fmt.Sprintf(", %s after the fork", roundDuration(f.Lived))
	}
	return line
}

func (f Facts) unit() string {
	if f.Unit == "" {
		return "(name not known)"
	}
	return f.Unit
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

// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// The verdicts, as JSON and rules spell them.
const (
	Leaked     = wire.VerdictLeaked
	Deliberate = wire.VerdictDeliberate
	Unknown    = wire.VerdictUnknown
)

// A Verdict is what Judge says of an orphan.
type Verdict struct {
	Word string
	// Evidence has one sentence for each fact, the deciding one first.
	Evidence []string
	// Provisional says that a fact which is pending could change the word.
	Provisional bool
	// Missing is, of an unknown one, the single fact that would have settled it. It is told
	// as the last line of the evidence, too.
	Missing string
}

// Judge returns the verdict on an orphan. It errs towards not killing: a fact that could
// not be read or an edge that was not observed is never leaked.
//
// The order is what makes it safe. The owner's own word (KEEP) comes first, then owners
// that live, then a lease, then whoever manages the place where it stands; only then how
// the spawner ended and whether the orphan had detached.
func Judge(f Facts) Verdict {
	word, because := decide(&f)
	v := Verdict{Word: word, Evidence: []string{because}, Provisional: f.mayChange(word)}
	for _, line := range circumstances(&f) {
		if line != because {
			v.Evidence = append(v.Evidence, line)
		}
	}
	if word == Unknown {
		v.Missing = f.missing()
		v.Evidence = append(v.Evidence, "it would be settled by "+v.Missing)
	}
	return v
}

// decide returns the verdict and the one fact that settles it.
func decide(f *Facts) (word, because string) {
	if f.MarksKnown && f.Keep {
		return Deliberate, "ABOT_TRACE_KEEP=1 in its environment says to keep it"
	}
	if owner := f.owner(); owner != "" {
		return Deliberate, owner
	}
	if f.LeaseEnded {
		if blind := f.blind(); blind != "" {
			return Unknown, blind
		}
		return Leaked, "the holder of its lease (ABOT_TRACE_LEASH=1) is dead"
	}
	if place := f.ownPlace(); place != "" {
		return Deliberate, place
	}
	if f.Succession.holds() {
		return Deliberate, "it is the next generation of its spawner's service: it executed the same program, listens, and has children of its own"
	}
	if f.Above != nil && f.Above.Verdict == Deliberate {
		return Deliberate, fmt.Sprintf("its spawner %s lives, and is deliberate", f.Above.who())
	}
	if blind := f.blind(); blind != "" {
		return Unknown, blind
	}
	if doubt := f.doubt(); doubt != "" {
		return Unknown, doubt
	}
	word, because = f.byDeath()
	if word == Leaked && f.Above != nil && f.Above.Verdict == Unknown {
		return Unknown, fmt.Sprintf("its spawner %s lives, and of that one it is not known", f.Above.who())
	}
	return word, because
}

// byDeath weighs how the spawner ended against the signs of detaching.
func (f *Facts) byDeath() (word, because string) {
	own := f.ownSigns()
	if !f.Direct && own.any() {
		if word, because := f.bySign(own, own.own()[0]); word == Deliberate {
			return word, because
		}
	}
	c := f.cause()
	if word, because := f.byUnit(c, own); word != "" {
		return word, because
	}
	switch c {
	case causeKilled:
		if own.any() {
			return Unknown, f.who() + " was killed, but it had detached by itself: that could be either"
		}
		return Leaked, f.end()
	case causeFailed:
		return f.afterFailure(own)
	case causeHangup:
		return f.afterHangup(own)
	default:
		return f.afterOrder(c, own)
	}
}

// byUnit says what the manager of the orphan's unit is about to do with it, "" where that
// is not its business.
func (f *Facts) byUnit(c cause, own signs) (word, because string) {
	u := &f.Unit
	if c != causeStopped && !u.Stops() && !(u.LeakerMain && !u.KeepsOthers()) {
		return "", ""
	}
	if c == causeStopped && !u.Ended {
		if word, because := f.afterOrder(c, own); word == Deliberate {
			return word, because
		}
	}
	switch {
	case !u.Ended && u.Name == "":
		return Unknown, "the init of its pid namespace ended " + f.who() + ", and may be about to end it too"
	case !u.Ended:
		return Unknown, fmt.Sprintf("its unit %s is being stopped or restarted, which ends what is left in it", u.name())
	case u.KeepsOthers():
		return f.afterOrder(causeLeft, own)
	case u.NoFinalKill:
		return Deliberate, fmt.Sprintf("its unit %s was stopped, and has SendSIGKILL=no, which leaves on purpose what does not end", u.name())
	case own.any():
		return Unknown, fmt.Sprintf("its unit %s was stopped, but it had detached by itself: that could be either", u.name())
	}
	return Leaked, fmt.Sprintf("its unit %s was stopped, with KillMode=%s, and it is still there", u.name(), u.KillMode)
}

// afterFailure is the verdict where the spawner left with another code than 0.
func (f *Facts) afterFailure(own signs) (word, because string) {
	switch {
	case own.any():
		return Unknown, f.who() + " failed, but it had detached by itself: that could be either"
	case f.Abandoned():
		return Leaked, f.who() + " failed and left it behind with nobody at the other end of its " + f.abandonedNames()
	case f.Leaker.Leaked:
		return Leaked, f.who() + " was leaked itself, and left it behind"
	case !f.endsKnown():
		return Unknown, f.who() + " failed, and whether anybody is at the other ends of its standard input, output and error is not known"
	}
	return Unknown, f.who() + " failed: neither killed nor done"
}

// afterHangup is the verdict where the spawner's terminal hung up. What survives that was
// spared by its shell, or spared itself.
func (f *Facts) afterHangup(own signs) (word, because string) {
	switch {
	case f.Exec.HupIgnored || f.Launch.HupIgnored:
		return Deliberate, "its launcher had it ignore SIGHUP, and so the hangup of the terminal spared it"
	case own.any():
		return f.bySign(own, own.own()[0])
	case f.HangupSurvived:
		return Unknown, "its terminal hung up, and it handles SIGHUP: that could be either"
	case f.Abandoned():
		return Unknown, "its terminal hung up, and nobody is at the other end of its " + f.abandonedNames()
	case !f.endsKnown() && !f.Pending.Ends:
		return Unknown, "its terminal hung up, and whether anybody is at the other ends of its standard input, output and error could not be read"
	case f.Launch.Session != 0 && f.Launch.Session == f.Leaker.PID && f.Now.Session == f.Leaker.PID:
		return Deliberate, "the shell that led its session spared it from the hangup of the terminal (disown)"
	}
	return Unknown, "its terminal hung up, and nothing says whether it was to survive that"
}

// afterOrder is the verdict where the spawner left in order.
func (f *Facts) afterOrder(c cause, own signs) (word, because string) {
	if f.Direct && f.Client == Yes {
		return Deliberate, "it is connected to a socket of the process that forked its spawner, a step of its code, to launch it (activation)"
	}
	prepared := f.preparedSigns()
	lines := own.own()
	all := own
	// A launcher that was left behind with it leaves because of that, not of its own will.
	if f.Direct && f.launchedBriefly() && !f.Leaker.LeakedWith {
		lines = append(lines, prepared.prepared()...)
		all = all.with(prepared)
		if wrapper := f.wrapperSigns(); wrapper.any() && !f.Tied {
			lines = append(lines, wrapper.prepared()...)
			all = all.with(wrapper)
		}
	}
	switch {
	case all.any():
		return f.bySign(all, lines[0])
	case f.Leaker.Leaked:
		return Leaked, f.who() + " was leaked itself, and left it behind"
	case f.Direct && prepared.any():
		return Unknown, fmt.Sprintf("its spawner prepared it to be detached, but left only %s after the fork", roundDuration(f.Lived))
	}
	left := f.who() + " left in order"
	if c == causeStep {
		left = f.who() + ", a step of its parent's code, is done"
	}
	return Unknown, left + " and it shows no sign of detaching by itself: that could be either"
}

func (f *Facts) launchedBriefly() bool { return f.Lived > 0 && f.Lived <= PreparedFor }

// bySign is the verdict where signs speak for the orphan, unless the only one is a session
// and nobody is at the other end of its stdio: launching code makes sessions for what it
// wants to end, too.
func (f *Facts) bySign(s signs, because string) (string, string) {
	switch {
	case s.sessionOnly() && f.Abandoned():
		return Unknown, "a new session is its only sign of detaching, and nobody is at the other end of its " + f.abandonedNames()
	case s.sessionOnly() && !f.endsKnown() && !f.Pending.Ends:
		return Unknown, "a new session is its only sign of detaching, and whether anybody is at the other ends of its standard input, output and error could not be read"
	}
	return Deliberate, because
}

// owner says who that lives owns the orphan, or nothing.
func (f *Facts) owner() string {
	switch {
	case f.Unit.Main:
		return fmt.Sprintf("it is the main process of the unit %s", f.Unit.name())
	case f.Unit.Control:
		return fmt.Sprintf("it is a control process of the unit %s", f.Unit.name())
	case f.Unit.Candidate:
		return fmt.Sprintf("what started the unit %s left it there in order: it may become its main process", f.Unit.name())
	case f.ContainerInit:
		return "it is the init process of a container whose monitor lives"
	case f.LoginLeader:
		return "it leads a login session"
	}
	return ""
}

// ownPlace says who manages the orphan where its spawner did not stand at its death, or
// nothing.
func (f *Facts) ownPlace() string {
	own, leaker := &f.Place, &f.LeakerPlace
	if !own.Known || !leaker.Known {
		return ""
	}
	switch {
	case own.Container != "" && own.Container != leaker.Container:
		return "it runs in the container " + own.Container + ", its spawner did not"
	case own.Session != "" && own.Session != leaker.Session:
		return "it belongs to the login session " + own.Session + ", its spawner did not"
	case own.Unit != "" && own.Unit != leaker.Unit:
		return "it runs in the unit " + own.Unit + ", its spawner did not"
	}
	return ""
}

// blind says why nothing can be told from the facts, or nothing.
func (f *Facts) blind() string {
	switch {
	case !f.Observed:
		return "who spawned it was not observed"
	case len(f.Errors) > 0:
		return "a fact could not be read: " + f.Errors[0]
	case !f.MarksKnown:
		return "the marks in its environment could not be read"
	}
	return ""
}

// doubt says why the death cannot be weighed, or nothing.
func (f *Facts) doubt() string {
	switch {
	case !f.Leaker.StatusKnown:
		return "how its spawner ended is not known"
	case !f.LaunchKnown || f.Executed && !f.ExecKnown || !f.NowKnown:
		return "its session and signal state are not known"
	case !f.Launch.StdioKnown || f.Executed && !f.Exec.StdioKnown || !f.Now.StdioKnown:
		return "its standard input, output and error are not known"
	case f.Succession.SameProgram && f.Succession.Children && f.Succession.Listens == NotAsked:
		return "it executed its spawner's program and has children, and whether it listens is not known"
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
)

func genStdio() *rapid.Generator[event.Stdio] {
	return rapid.Custom(func(t *rapid.T) event.Stdio {
		file := rapid.SampledFrom([]event.File{{}, null, tty, logFile, ownFile, pipe(1), pipe(2), socket(1)})
		return event.Stdio{file.Draw(t, "stdin"), file.Draw(t, "stdout"), file.Draw(t, "stderr")}
	})
}

func genOrigin() *rapid.Generator[event.Origin] {
	return rapid.Custom(func(t *rapid.T) event.Origin {
		return event.Origin{
			Session:    rapid.SampledFrom([]int32{0, 50, spawner, 101}).Draw(t, "session"),
			SessionOwn: rapid.Bool().Draw(t, "leads"),
			HupIgnored: rapid.Bool().Draw(t, "hup"),
			Tty:        rapid.Bool().Draw(t, "tty"),
			StdioKnown: rapid.IntRange(0, 9).Draw(t, "stdio known") > 0,
			Stdio:      genStdio().Draw(t, "stdio"),
		}
	})
}

func genSent() *rapid.Generator[Sent] {
	return rapid.Custom(func(t *rapid.T) Sent {
		return Sent{Signal: rapid.SampledFrom([]unix.Signal{0, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGKILL}).Draw(t, "signal"),
			By: By(rapid.IntRange(0, int(ByStranger)).Draw(t, "by"))}
	})
}

func genPlace() *rapid.Generator[Place] {
	return rapid.Custom(func(t *rapid.T) Place {
		word := rapid.SampledFrom([]string{"", "", "a", "b"})
		return Place{Known: rapid.Bool().Draw(t, "known"), Unit: word.Draw(t, "unit"), Container: word.Draw(t, "container"),
			Session: word.Draw(t, "session")}
	})
}

func genUnit() *rapid.Generator[Unit] {
	return rapid.Custom(func(t *rapid.T) Unit {
		rarely := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 9 }
		return Unit{
			Name: rapid.SampledFrom([]string{"", "a.service"}).Draw(t, "name"), User: rarely("user"), Known: rapid.Bool().Draw(t, "known"),
			State:    rapid.SampledFrom([]string{"", "active", "activating", "deactivating", "inactive", "failed"}).Draw(t, "state"),
			KillMode: rapid.SampledFrom([]string{"", "control-group", "mixed", "process", "none"}).Draw(t, "killmode"),
			Main:     rarely("main"), Control: rarely("control"), Candidate: rarely("candidate"),
			LeakerMain: rarely("leaker main"), Ended: rapid.Bool().Draw(t, "ended"),
		}
	})
}

// genFacts draws facts where nothing unlikely is drawn too often to reach the end.
func genFacts() *rapid.Generator[Facts] {
	return rapid.Custom(func(t *rapid.T) Facts {
		often := func(label string) bool { return rapid.IntRange(0, 19).Draw(t, label) > 0 }
		rarely := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 9 }
		end := func(label string) End { return End(rapid.IntRange(0, int(EndAbandoned)).Draw(t, label)) }
		f := Facts{
			Observed: often("observed"), Direct: rapid.Bool().Draw(t, "direct"),
			Lived: time.Duration(rapid.Int64Range(0, 20e9).Draw(t, "lived")),
			Leaker: Leaker{PID: spawner, Comm: "x", StatusKnown: often("status known"), OOM: rarely("oom"),
				Status:      rapid.SampledFrom([]event.Status{left, killed, failed, 11 | 0x80, 15, 1}).Draw(t, "status"),
				NeverExeced: rapid.Bool().Draw(t, "never execed"),
				Leaked:      rarely("leaker leaked"),
				Signal:      genSent().Draw(t, "signal"), Asked: genSent().Draw(t, "asked")},
			Launch: genOrigin().Draw(t, "launch"), Exec: genOrigin().Draw(t, "exec"), Now: genOrigin().Draw(t, "now"),
			LaunchKnown: often("launch known"), ExecKnown: often("exec known"), NowKnown: often("now known"),
			Executed: rapid.Bool().Draw(t, "executed"), HangupSurvived: rarely("hangup"),
			Ends:  [3]End{end("end 0"), end("end 1"), end("end 2")},
			Place: genPlace().Draw(t, "place"), LeakerPlace: genPlace().Draw(t, "leaker place"), Unit: genUnit().Draw(t, "unit"),
			ContainerInit: rarely("container"), LoginLeader: rarely("login"),
			Succession: Succession{rarely("same"), rapid.Bool().Draw(t, "children"), Answer(rapid.IntRange(0, 2).Draw(t, "listens"))},
			Client:     Answer(rapid.IntRange(0, 2).Draw(t, "client")),
			MarksKnown: often("marks known"), Keep: rarely("keep"), Leash: rarely("leash"), LeaseEnded: rarely("ended"),
		}
		if !f.Direct && rapid.Bool().Draw(t, "above known") {
			f.Above = &Above{PID: 7, Comm: "y", Verdict: rapid.SampledFrom([]string{Leaked, Unknown, Deliberate}).Draw(t, "above")}
		}
		if rarely("error") {
			f.Errors = []string{"read: failed"}
		}
		return f
	})
}

func (f *Facts) owned() bool { return f.owner() != "" }

// harshness orders the verdicts.
func harshness(word string) int {
	switch word {
	case Deliberate:
		return 0
	case Unknown:
		return 1
	default:
		return 2
	}
}

func TestDoubtIsNeverLeaked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		got := Judge(f)
		blind := !f.Observed || len(f.Errors) > 0 || !f.MarksKnown
		doubt := !f.Leaker.StatusKnown || !f.LaunchKnown || !f.NowKnown || f.Executed && !f.ExecKnown ||
			!f.Launch.StdioKnown || !f.Now.StdioKnown || f.Executed && !f.Exec.StdioKnown
		if got.Word == Leaked && (blind || doubt && !f.LeaseEnded) {
			t.Fatalf("leaked although something is not known: %+v", f)
		}
		if len(got.Evidence) == 0 || got.Evidence[0] == "" || (got.Word == Unknown) != (got.Missing != "") {
			t.Fatalf("evidence %q, missing %q for %s", got.Evidence, got.Missing, got.Word)
		}
	})
}

// TestSparedIsNeverLeaked: nothing that gave a sign itself, has a place of its own, or is
// owned, except below an ended lease, where only KEEP and ownership spare.
func TestSparedIsNeverLeaked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		got := Judge(f).Word
		if (f.MarksKnown && f.Keep || f.owned()) && got != Deliberate {
			t.Fatalf("got %s, want deliberate: %+v", got, f)
		}
		if f.LeaseEnded || got != Leaked {
			return
		}
		if f.ownSigns().any() || f.ownPlace() != "" {
			t.Fatalf("leaked in spite of its own sign or place: %+v", f)
		}
	})
}

// TestSparingFactsNeverHarm: adding one never makes a verdict harsher.
func TestSparingFactsNeverHarm(t *testing.T) {
	sparing := []struct {
		name string
		add  func(*Facts)
	}{
		{"KEEP", func(f *Facts) { f.MarksKnown, f.Keep = true, true }},
		{"main process", func(f *Facts) { f.Unit.Main = true }},
		{"control process", func(f *Facts) { f.Unit.Control = true }},
		{"candidate", func(f *Facts) { f.Unit.Candidate = true }},
		{"container", func(f *Facts) { f.ContainerInit = true }},
		{"login leader", func(f *Facts) { f.LoginLeader = true }},
		{"place", func(f *Facts) { f.Place, f.LeakerPlace.Known = Place{Known: true, Unit: "own.scope"}, true }},
		{"succession", func(f *Facts) { f.Succession = Succession{true, true, Yes} }},
		{"SIGHUP ignored", func(f *Facts) { f.Now.HupIgnored = true }},
		{"new session", func(f *Facts) { f.Now.SessionOwn, f.Now.Session = true, 102 }},
		{"activation", func(f *Facts) { f.Client = Yes }},
		{"below a deliberate one", func(f *Facts) { f.Direct, f.Above = false, &Above{Verdict: Deliberate} }},
	}
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		fact := sparing[rapid.IntRange(0, len(sparing)-1).Draw(t, "fact")]
		before := Judge(f)
		later := f
		fact.add(&later)
		if after := Judge(later); harshness(after.Word) > harshness(before.Word) {
			t.Fatalf("%s turned %s into %s (%q): %+v", fact.name, before.Word, after.Word, after.Evidence[0], f)
		}
	})
}

// TestLeakedHasACause: without a lease, a stopped unit or nobody at the other end, nothing
// but a violent end leaks.
func TestLeakedHasACause(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		peaceful := !f.Leaker.Status.Signaled() && !f.Leaker.OOM
		if got := Judge(f); got.Word == Leaked && peaceful && !f.LeaseEnded && !f.Unit.Ended && !f.Abandoned() && !f.Leaker.Leaked {
			t.Fatalf("leaked after a peaceful end: %+v", f)
		}
	})
}

// TestNothingLeaksBeforeItsUnitIsDown: whose manager stops it is not leaked meanwhile.
func TestNothingLeaksBeforeItsUnitIsDown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		f.Unit.Ended, f.LeaseEnded = false, false
		stops := f.Unit.Stops() || f.Leaker.Asked.By == ByManager && !f.Leaker.OOM
		if got := Judge(f); stops && got.Word == Leaked {
			t.Fatalf("leaked while its manager stops it: %+v", f)
		}
	})
}

// TestFinalStays: what a verdict says is pending and does not matter, does not.
func TestFinalStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		f.Errors = nil
		f.Pending.Ends = true
		v := Judge(f)
		if v.Provisional {
			return
		}
		answered := f
		rapid.SampledFrom([]func(*Facts){holdEnds, abandon}).Draw(t, "answer")(&answered)
		if got := Judge(answered); got.Word != v.Word {
			t.Fatalf("final %s became %s: %+v", v.Word, got.Word, f)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"testing"
	"time"

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

// genFacts draws facts where nothing unlikely is drawn too often to reach the end.
func genFacts() *rapid.Generator[Facts] {
	return rapid.Custom(func(t *rapid.T) Facts {
		often := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) > 0 }
		rarely := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 9 }
		f := Facts{
			Observed: often("observed"), LeakerPID: spawner, LeakerComm: "x",
			Status:      rapid.SampledFrom([]event.Status{left, killed, failed, 11 | 0x80}).Draw(t, "status"),
			StatusKnown: often("status known"), OOM: rarely("oom"),
			Lived:  time.Duration(rapid.Int64().Draw(t, "lived")),
			AtFork: genOrigin().Draw(t, "fork"), AtDeath: genOrigin().Draw(t, "death"),
			AtForkKnown: often("fork known"), AtDeathKnown: often("death known"),
			MainPID: rarely("main"), Starting: rarely("starting"),
			KillMode:      rapid.SampledFrom([]string{"", "control-group", "mixed", "process", "none"}).Draw(t, "killmode"),
			ContainerInit: rarely("container"), TmuxServer: rarely("tmux"), LoginSession: rarely("login"),
			UserService: rarely("user service"),
			MarksKnown:  often("marks known"), Keep: rarely("keep"), Leash: rarely("leash"), LeaseEnded: rarely("ended"),
		}
		if rarely("error") {
			f.Errors = []string{"probe: failed"}
		}
		return f
	})
}

func TestDoubtIsNeverLeaked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		got, _ := Judge(f)
		blind := !f.Observed || len(f.Errors) > 0 || !f.MarksKnown || !f.StatusKnown ||
			!f.AtForkKnown || !f.AtDeathKnown || !f.AtFork.StdioKnown || !f.AtDeath.StdioKnown
		if blind && got == Leaked {
			t.Fatalf("leaked although something is not known: %+v", f)
		}
	})
}

func TestKeepWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		f.MarksKnown, f.Keep = true, true
		if got, _ := Judge(f); got != Deliberate {
			t.Fatalf("got %s, want deliberate: %+v", got, f)
		}
	})
}

func TestOwnedIsNeverLeaked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		owned := f.MainPID || f.Starting || f.ContainerInit || f.TmuxServer || f.LoginSession
		if got, _ := Judge(f); owned && got != Deliberate {
			t.Fatalf("got %s, want deliberate: %+v", got, f)
		}
	})
}

// TestSignsOnlyAccumulate: a state read a little late shows more signs, never fewer,
// and so may turn leaked into unknown but nothing into leaked.
func TestSignsOnlyAccumulate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		before, _ := Judge(f)
		later := f
		switch rapid.IntRange(0, 2).Draw(t, "sign") {
		case 0:
			setsid(&later)
		case 1:
			ignores(&later)
		case 2:
			nulled(&later)
			if later.AtDeath.Stdio == f.AtFork.Stdio {
				t.Skip("born with /dev/null: nothing to replace")
			}
		}
		after, _ := Judge(later)
		if after == Leaked && before != Leaked {
			t.Fatalf("one more sign turned %s into leaked: %+v", before, later)
		}
	})
}

// TestLeakedHasACause: without a lease, nothing but a violent end leaks.
func TestLeakedHasACause(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genFacts().Draw(t, "facts")
		got, evidence := Judge(f)
		if got == Leaked && !f.LeaseEnded && f.UserService {
			t.Fatalf("leaked, and nobody asked whether it is the main process: %+v", f)
		}
		if got == Leaked && !f.LeaseEnded && !f.Status.Signaled() && !f.OOM {
			t.Fatalf("leaked after a peaceful end: %+v", f)
		}
		if len(evidence) == 0 || evidence[0] == "" {
			t.Fatalf("no evidence for %s: %+v", got, f)
		}
	})
}

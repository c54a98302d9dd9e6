// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

var (
	null    = event.File{Dev: 5, Ino: 4, Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)}
	tty     = event.File{Dev: 22, Ino: 3, Mode: unix.S_IFCHR | 0o620, Rdev: unix.Mkdev(136, 0)}
	logFile = event.File{Dev: 8, Ino: 77, Mode: unix.S_IFREG | 0o644}
	ownFile = event.File{Dev: 8, Ino: 78, Mode: unix.S_IFREG | 0o644}
)

func pipe(ino uint64) event.File { return event.File{Dev: 13, Ino: ino, Mode: unix.S_IFIFO | 0o600} }
func socket(ino uint64) event.File {
	return event.File{Dev: 9, Ino: ino, Mode: unix.S_IFSOCK | 0o777}
}

const (
	spawner = 100
	killed  = event.Status(unix.SIGKILL)
	left    = event.Status(0)
	failed  = event.Status(3 << 8)
)

// leak is a plain child of a plain spawner that was just killed, with everything
// known and observed: each case changes what it is about.
func leak() Facts {
	state := event.Origin{Session: 50, StdioKnown: true, Stdio: event.Stdio{pipe(1), pipe(2), pipe(3)}}
	return Facts{
		Observed: true, LeakerComm: "python3", LeakerPID: spawner, Status: killed, StatusKnown: true,
		Lived:  2 * time.Second,
		AtFork: state, AtDeath: state, AtForkKnown: true, AtDeathKnown: true,
		AdopterComm: "systemd", AdopterKind: event.AdopterInit, MarksKnown: true,
	}
}

func with(change func(*Facts)) Facts {
	f := leak()
	change(&f)
	return f
}

func setsid(f *Facts)  { f.AtDeath.SessionOwn, f.AtDeath.Session = true, 101 }
func nulled(f *Facts)  { f.AtDeath.Stdio = event.Stdio{null, null, null} }
func leftOK(f *Facts)  { f.Status = left }
func ignores(f *Facts) { f.AtDeath.HupIgnored = true }

// TestMeasuredCases holds every row that was measured for what tells a leak from a
// daemon: the spawner's end, session, stdio and SIGHUP as they were found.
func TestMeasuredCases(t *testing.T) {
	tests := []struct {
		name  string
		facts Facts
		want  string
	}{
		{"nohup cmd &", with(func(f *Facts) { leftOK(f); nulled(f); ignores(f) }), Deliberate},
		{"setsid cmd &", with(func(f *Facts) { leftOK(f); nulled(f); setsid(f) }), Deliberate},
		{"double-fork daemon", with(func(f *Facts) {
			leftOK(f)
			nulled(f)
			f.AtFork.Session, f.AtDeath.Session = spawner, spawner
		}), Deliberate},
		{"double-fork daemon, redirected before the second fork", with(func(f *Facts) {
			leftOK(f)
			f.AtFork.Session, f.AtDeath.Session = spawner, spawner
			f.AtFork.Stdio = event.Stdio{null, null, null}
			nulled(f)
		}), Deliberate},
		{"node detached and unref", with(func(f *Facts) { leftOK(f); nulled(f); setsid(f) }), Deliberate},
		{"tmux server", with(func(f *Facts) { leftOK(f); nulled(f); setsid(f); f.TmuxServer = true }), Deliberate},
		{"cmd & then exit", with(func(f *Facts) {
			leftOK(f)
			f.AtDeath.Stdio = event.Stdio{null, pipe(2), pipe(3)}
		}), Unknown},
		{"shell killed: foreground child", leak(), Leaked},
		{"shell killed: pipeline", with(func(f *Facts) { f.AtDeath.Stdio[1] = pipe(9) }), Leaked},
		{"node killed: spawn()", with(func(f *Facts) {
			f.AtDeath.Stdio = event.Stdio{socket(1), socket(2), socket(3)}
		}), Leaked},
		{"node killed: fork()", with(func(f *Facts) {
			f.AtFork.Stdio = event.Stdio{tty, tty, tty}
			f.AtDeath.Stdio = f.AtFork.Stdio
		}), Leaked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, evidence := Judge(tt.facts); got != tt.want {
				t.Errorf("got %s, want %s; evidence:\n%s", got, tt.want, strings.Join(evidence, "\n"))
			}
		})
	}
}

// TestRules holds the rules of the verdict one by one, with the fact that decides.
func TestRules(t *testing.T) {
	tests := []struct {
		name    string
		facts   Facts
		want    string
		because string
	}{
		{"killed by a signal, no sign", leak(), Leaked,
			"its spawner, pid 100 (python3), was killed by SIGKILL, 2s after the fork"},
		{"killed, and by whom", with(func(f *Facts) { f.KilledBy = "pid 7 (kill)" }), Leaked,
			"its spawner, pid 100 (python3), was killed by SIGKILL, sent by pid 7 (kill), 2s after the fork"},
		{"OOM", with(func(f *Facts) { f.OOM = true }), Leaked,
			"its spawner, pid 100 (python3), was killed by the OOM killer, 2s after the fork"},
		{"core dumped", with(func(f *Facts) { f.Status = event.Status(unix.SIGSEGV) | 0x80 }), Leaked,
			"its spawner, pid 100 (python3), was killed by SIGSEGV (core dumped), 2s after the fork"},
		{"killed, session leader", with(setsid), Unknown,
			"its spawner was killed, but it shows a sign of detaching: that could be either"},
		{"nohup under a shell that dies of SIGHUP", with(func(f *Facts) {
			f.Status = event.Status(unix.SIGHUP)
			ignores(f)
		}), Unknown, "its spawner was killed, but it shows a sign of detaching: that could be either"},
		{"killed, stdio replaced", with(nulled), Unknown,
			"its spawner was killed, but it shows a sign of detaching: that could be either"},
		{"killed, OOM and a sign", with(func(f *Facts) { f.OOM = true; setsid(f) }), Unknown,
			"its spawner was killed, but it shows a sign of detaching: that could be either"},
		{"failed", with(func(f *Facts) { f.Status = failed }), Unknown,
			"its spawner failed: neither killed nor done"},
		{"failed, session leader", with(func(f *Facts) { f.Status = failed; setsid(f) }), Unknown,
			"its spawner failed: neither killed nor done"},
		{"left, no sign", with(leftOK), Unknown,
			"its spawner left with exit code 0 and it shows no sign of detaching: that could be either"},
		{"left, session leader", with(func(f *Facts) { leftOK(f); setsid(f) }), Deliberate,
			"it had become a session leader (setsid)"},
		{"left, ignores SIGHUP", with(func(f *Facts) { leftOK(f); ignores(f) }), Deliberate,
			"it had begun to ignore SIGHUP (nohup)"},
		{"left, SIGHUP ignored from birth", with(func(f *Facts) { leftOK(f); ignores(f); f.AtFork.HupIgnored = true }),
			Deliberate, "it ignores SIGHUP, as its spawner did"},
		{"left, stdio to files of its own", with(func(f *Facts) {
			leftOK(f)
			f.AtDeath.Stdio = event.Stdio{null, ownFile, ownFile}
		}), Deliberate, "its standard input, output and error had been replaced by /dev/null or files of its own"},
		{"left, stdio to the spawner's log", with(func(f *Facts) {
			leftOK(f)
			f.AtFork.Stdio = event.Stdio{null, logFile, logFile}
			f.AtDeath.Stdio = event.Stdio{null, logFile, logFile}
		}), Unknown, "its spawner left with exit code 0 and it shows no sign of detaching: that could be either"},
		{"killed, all output to /dev/null from birth", with(func(f *Facts) {
			f.AtFork.Stdio = event.Stdio{null, null, null}
			nulled(f)
		}), Leaked, "its spawner, pid 100 (python3), was killed by SIGKILL, 2s after the fork"},
		{"killed, main process of a service with output to /dev/null", with(func(f *Facts) {
			f.AtFork.Session, f.AtDeath.Session = spawner, spawner
			f.AtFork.Stdio = event.Stdio{null, null, null}
			nulled(f)
		}), Leaked, "its spawner, pid 100 (python3), was killed by SIGKILL, 2s after the fork"},
		{"descriptor 2 closed is not replaced", with(func(f *Facts) {
			leftOK(f)
			f.AtDeath.Stdio = event.Stdio{null, null, {}}
		}), Unknown, "its spawner left with exit code 0 and it shows no sign of detaching: that could be either"},
		{"main process of a unit", with(func(f *Facts) { f.MainPID, f.Unit = true, "web.service" }), Deliberate,
			"it is the main process of the active unit web.service"},
		{"unit still starting", with(func(f *Facts) { f.Starting, f.Unit = true, "db.service" }), Deliberate,
			"its unit db.service is still starting"},
		{"container init", with(func(f *Facts) { f.ContainerInit = true }), Deliberate,
			"it is the init process of a container"},
		{"tmux", with(func(f *Facts) { f.TmuxServer = true }), Deliberate, "it belongs to a live tmux or screen server"},
		{"login session", with(func(f *Facts) { f.LoginSession = true }), Deliberate,
			"it belongs to a live login session"},
		{"in a unit but not its main process", with(func(f *Facts) { f.Unit = "web.service" }), Leaked,
			"its spawner, pid 100 (python3), was killed by SIGKILL, 2s after the fork"},
		{"KillMode=process", with(func(f *Facts) { f.Unit, f.KillMode = "ssh.service", "process" }), Unknown,
			"its unit ssh.service has KillMode=process, which leaves processes behind on purpose"},
		{"KillMode=none", with(func(f *Facts) { f.KillMode = "none" }), Unknown,
			"its unit (name not known) has KillMode=none, which leaves processes behind on purpose"},
		{"in a user manager's service", with(func(f *Facts) { f.Unit, f.UserService = "agent.service", true }), Unknown,
			"its unit agent.service is a user manager's, which was not asked for its main process"},
		{"in a user manager's service, detached", with(func(f *Facts) {
			f.Unit, f.UserService = "agent.service", true
			leftOK(f)
			ignores(f)
		}), Deliberate, "it had begun to ignore SIGHUP (nohup)"},
		{"in a user manager's service, of an ended lease", with(func(f *Facts) {
			f.Unit, f.UserService, f.Leash, f.LeaseEnded = "agent.service", true, true, true
		}), Leaked, "the holder of its lease (ABOT_TRACE_LEASH=1) is dead"},
		{"KillMode=control-group", with(func(f *Facts) { f.Unit, f.KillMode = "a.service", "control-group" }), Leaked,
			"its spawner, pid 100 (python3), was killed by SIGKILL, 2s after the fork"},
		{"KEEP", with(func(f *Facts) { f.Keep = true }), Deliberate,
			"ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{"KEEP wins over a lease", with(func(f *Facts) { f.Keep, f.Leash, f.LeaseEnded = true, true, true }), Deliberate,
			"ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{"KEEP wins over a failed probe", with(func(f *Facts) { f.Keep, f.Errors = true, []string{"stdio: gone"} }),
			Deliberate, "ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{"lease ended", with(func(f *Facts) { leftOK(f); setsid(f); f.Leash, f.LeaseEnded = true, true }), Leaked,
			"the holder of its lease (ABOT_TRACE_LEASH=1) is dead"},
		{"a lease does not own a service", with(func(f *Facts) {
			f.Leash, f.LeaseEnded, f.MainPID, f.Unit = true, true, true, "a.service"
		}), Deliberate, "it is the main process of the active unit a.service"},
		{"a lease inherited by tmux", with(func(f *Facts) { f.Leash, f.LeaseEnded, f.TmuxServer = true, true, true }),
			Deliberate, "it belongs to a live tmux or screen server"},
		{"lease still held", with(func(f *Facts) { f.Leash = true }), Leaked,
			"its spawner, pid 100 (python3), was killed by SIGKILL, 2s after the fork"},
		{"not observed", with(func(f *Facts) { f.Observed = false }), Unknown, "who spawned it was not observed"},
		{"probe error", with(func(f *Facts) { f.Errors = []string{"environ: permission denied"} }), Unknown,
			"a probe failed: environ: permission denied"},
		{"probe error and a lease", with(func(f *Facts) { f.LeaseEnded, f.Errors = true, []string{"unit: timeout"} }),
			Unknown, "a probe failed: unit: timeout"},
		{"marks not read", with(func(f *Facts) { f.MarksKnown = false }), Unknown,
			"the marks in its environment could not be read"},
		{"status not known", with(func(f *Facts) { f.StatusKnown = false }), Unknown, "how its spawner ended is not known"},
		{"state at the fork not known", with(func(f *Facts) { f.AtForkKnown = false }), Unknown,
			"its session and signal state at its spawner's death are not known"},
		{"state at the death not known", with(func(f *Facts) { f.AtDeathKnown = false }), Unknown,
			"its session and signal state at its spawner's death are not known"},
		{"stdio not known", with(func(f *Facts) { f.AtDeath.StdioKnown = false }), Unknown,
			"its standard input, output and error at its spawner's death are not known"},
		{"nothing known", Facts{}, Unknown, "who spawned it was not observed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, evidence := Judge(tt.facts)
			if got != tt.want || evidence[0] != tt.because {
				t.Errorf("got %s because %q, want %s because %q", got, evidence[0], tt.want, tt.because)
			}
		})
	}
}

func TestEvidence(t *testing.T) {
	f := with(func(f *Facts) {
		f.Unit, f.Leash, f.AtDeath.Tty = "web.service", true, true
		f.Lived = 1234567 * time.Nanosecond
	})
	_, got := Judge(f)
	want := []string{
		"its spawner, pid 100 (python3), was killed by SIGKILL, 1.23ms after the fork",
		"no sign of detaching: it leads no session, does not ignore SIGHUP, and has not replaced its standard input, output and error",
		"it had a controlling terminal",
		"its cgroup belongs to the unit web.service, whose main process it is not",
		"ABOT_TRACE_LEASH=1 is in its environment",
		"adopted by systemd (init)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestEvidenceListsEveryError makes sure that no failed probe goes untold.
func TestEvidenceListsEveryError(t *testing.T) {
	_, evidence := Judge(with(func(f *Facts) { f.Errors = []string{"environ: EACCES", "unit: timeout"} }))
	for _, want := range []string{"a probe failed: environ: EACCES", "a probe failed: unit: timeout"} {
		if n := count(evidence, want); n != 1 {
			t.Errorf("%q appears %d times in %q, want once", want, n, evidence)
		}
	}
}

func count(lines []string, line string) (n int) {
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}

func TestRoundDuration(t *testing.T) {
	tests := []struct{ give, want time.Duration }{
		{987654 * time.Nanosecond, 988 * time.Microsecond},
		{98765432 * time.Nanosecond, 98800 * time.Microsecond},
		{12345 * time.Millisecond, 12300 * time.Millisecond},
		{90061 * time.Second, 90061 * time.Second},
	}
	for _, tt := range tests {
		if got := roundDuration(tt.give); got != tt.want {
			t.Errorf("roundDuration(%d): got %s, want %s", tt.give, got, tt.want)
		}
	}
}

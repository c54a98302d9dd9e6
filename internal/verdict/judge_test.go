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

// leak is a program that its spawner, a program, had executed in the foreground for two
// minutes when a stranger killed it: each case changes what it is about.
func leak() Facts {
	state := event.Origin{Session: 50, StdioKnown: true, Stdio: event.Stdio{pipe(1), pipe(2), pipe(3)}}
	return Facts{
		Observed: true, Direct: true, Lived: 2 * time.Minute,
		Leaker: Leaker{Comm: "python3", PID: spawner, Status: killed, StatusKnown: true,
			Signal: Sent{Signal: unix.SIGKILL, By: ByStranger, Who: "pid 7 (kill)"}},
		Launch: state, LaunchKnown: true, Executed: true, Exec: state, ExecKnown: true, Now: state, NowKnown: true,
		Ends:        [3]End{EndHeld, EndHeld, EndHeld},
		Place:       Place{Known: true, Unit: "session-1.scope", Session: "1"},
		LeakerPlace: Place{Known: true, Unit: "session-1.scope", Session: "1"},
		AdopterComm: "systemd", AdopterKind: event.AdopterInit, MarksKnown: true,
	}
}

// with returns the leak with changes.
func with(changes ...func(*Facts)) Facts {
	f := leak()
	for _, change := range changes {
		change(&f)
	}
	return f
}

// How the spawner ended.
func endsWith(status event.Status, signal Sent) func(*Facts) {
	return func(f *Facts) { f.Leaker.Status, f.Leaker.Signal = status, signal }
}

func leftOK(f *Facts) { endsWith(left, Sent{})(f) }
func fails(f *Facts)  { endsWith(failed, Sent{})(f) }

// at once after the fork.
func soon(f *Facts) { f.Lived = 20 * time.Millisecond }

func killedBy(by By) func(*Facts) {
	return endsWith(killed, Sent{Signal: unix.SIGKILL, By: by, Who: "pid 9 (x)"})
}

func terminatedBy(by By) func(*Facts) {
	return endsWith(event.Status(unix.SIGTERM), Sent{Signal: unix.SIGTERM, By: by, Who: "pid 9 (x)"})
}

func hungUp(f *Facts) {
	endsWith(event.Status(unix.SIGHUP), Sent{Signal: unix.SIGHUP, By: ByTerminal})(f)
}

// askedBy is a spawner that caught the signal and then left.
func askedBy(by By, sig unix.Signal, status event.Status) func(*Facts) {
	return func(f *Facts) {
		endsWith(status, Sent{})(f)
		f.Leaker.Asked = Sent{Signal: sig, By: by, Who: "pid 9 (x)", Ago: 80 * time.Millisecond}
	}
}

// neverExeced is a spawner that ran its parent's code.
func neverExeced(f *Facts) { f.Leaker.NeverExeced = true }

// forked is an orphan that never executed.
func forked(f *Facts) { f.Executed, f.Exec, f.ExecKnown = false, event.Origin{}, false }

// Signs of the orphan's own.
func setsid(f *Facts)   { f.Now.SessionOwn, f.Now.Session = true, 101 }
func nulled(f *Facts)   { f.Now.Stdio = event.Stdio{null, null, null} }
func ignores(f *Facts)  { f.Now.HupIgnored = true }
func nohup(f *Facts)    { ignores(f); f.Now.Stdio = event.Stdio{null, ownFile, ownFile} }
func daemoned(f *Facts) { forked(f); setsid(f); nulled(f) }

// wrapped is below a program that was put into a session of its own, with that at 0, 1 and 2,
// and lived so long.
func wrapped(life time.Duration, stdio event.File) func(*Facts) {
	return func(f *Facts) {
		f.Leaker.Start, f.Leaker.StartKnown, f.Leaker.Life = f.Launch, true, life
		for _, o := range []*event.Origin{&f.Launch, &f.Exec, &f.Now} {
			o.Session, o.Stdio = 100, event.Stdio{stdio, stdio, stdio}
		}
	}
}

// Signs that launching code prepared.
func preparedSession(f *Facts) {
	f.Exec.SessionOwn, f.Exec.Session = true, 101
	f.Now.SessionOwn, f.Now.Session = true, 101
}

func preparedNull(f *Facts) {
	f.Exec.Stdio = event.Stdio{null, null, null}
	f.Now.Stdio = f.Exec.Stdio
}

func preparedHup(f *Facts) { f.Exec.HupIgnored, f.Now.HupIgnored = true, true }

// bornNull is a service's: it has /dev/null since before its spawner forked it.
func bornNull(f *Facts) {
	for _, o := range []*event.Origin{&f.Launch, &f.Exec, &f.Now} {
		o.Stdio = event.Stdio{null, null, null}
	}
}

// Nobody at the other ends.
func abandoned(f *Facts) { f.Ends = [3]End{EndHeld, EndAbandoned, EndAbandoned} }

func stranded(f *Facts) {
	f.Direct = false
	f.Above = &Above{PID: 200, Comm: "sh", Verdict: Leaked}
}

func inUnit(name, state, killMode string) func(*Facts) {
	return func(f *Facts) {
		f.Unit = Unit{Name: name, Known: true, State: state, KillMode: killMode}
		f.Place, f.LeakerPlace = Place{Known: true, Unit: name}, Place{Known: true, Unit: name}
	}
}

func check(t *testing.T, f Facts, want string, provisional bool) {
	t.Helper()
	got := Judge(f)
	if got.Word != want || got.Provisional != provisional {
		t.Errorf("got %s (provisional %v), want %s (%v); evidence:\n%s", got.Word, got.Provisional, want, provisional,
			strings.Join(got.Evidence, "\n"))
	}
	if (got.Word == Unknown) != (got.Missing != "") {
		t.Errorf("%s, and missing is %q", got.Word, got.Missing)
	}
}

// TestDeaths holds what follows from how the spawner ended, for an orphan without a sign,
// one with a sign of its own, one that was prepared, and one with nobody at the other end.
func TestDeaths(t *testing.T) {
	deaths := []struct {
		name                                    string
		end                                     []func(*Facts)
		none, own, prepared, abandoned, session string
	}{
		{"killed by a stranger", []func(*Facts){killedBy(ByStranger)}, Leaked, Unknown, Leaked, Leaked, Unknown},
		{"killed by nobody knows whom", []func(*Facts){killedBy(ByUnknown)}, Leaked, Unknown, Leaked, Leaked, Unknown},
		{"killed by its own living spawner", []func(*Facts){killedBy(BySpawner)}, Leaked, Unknown, Leaked, Leaked, Unknown},
		{"terminated by a stranger", []func(*Facts){terminatedBy(ByStranger)}, Leaked, Unknown, Leaked, Leaked, Unknown},
		{"crashed", []func(*Facts){endsWith(event.Status(unix.SIGSEGV)|0x80, Sent{Signal: unix.SIGSEGV, By: ByKernel})},
			Leaked, Unknown, Leaked, Leaked, Unknown},
		{"aborted", []func(*Facts){endsWith(event.Status(unix.SIGABRT), Sent{Signal: unix.SIGABRT, By: ByItself})},
			Leaked, Unknown, Leaked, Leaked, Unknown},
		{"OOM", []func(*Facts){func(f *Facts) { f.Leaker.OOM = true }}, Leaked, Unknown, Leaked, Leaked, Unknown},
		{"failed", []func(*Facts){fails}, Unknown, Unknown, Unknown, Leaked, Unknown},
		{"asked by a stranger, and failed", []func(*Facts){askedBy(ByStranger, unix.SIGTERM, 143<<8)},
			Unknown, Unknown, Unknown, Leaked, Unknown},
		{"left", []func(*Facts){leftOK}, Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"left at once", []func(*Facts){leftOK, soon}, Unknown, Deliberate, Deliberate, Unknown, Deliberate},
		{"asked by a stranger, and left", []func(*Facts){askedBy(ByStranger, unix.SIGTERM, left)},
			Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"hung up", []func(*Facts){hungUp}, Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"hung up, handled, and left", []func(*Facts){askedBy(ByTerminal, unix.SIGHUP, 129<<8)},
			Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"hung up by the terminal's owner", []func(*Facts){endsWith(event.Status(unix.SIGHUP), Sent{Signal: unix.SIGHUP, By: BySpawner})},
			Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"SIGHUP by a stranger", []func(*Facts){endsWith(event.Status(unix.SIGHUP), Sent{Signal: unix.SIGHUP, By: ByStranger})},
			Leaked, Unknown, Leaked, Leaked, Unknown},
		{"interrupted by a key", []func(*Facts){endsWith(event.Status(unix.SIGINT), Sent{Signal: unix.SIGINT, By: ByTerminal})},
			Leaked, Unknown, Leaked, Leaked, Unknown},
		{"stopped by the init of its namespace", []func(*Facts){terminatedBy(ByManager)}, Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"a step: left", []func(*Facts){neverExeced, leftOK, soon}, Unknown, Deliberate, Deliberate, Unknown, Deliberate},
		{"a step: terminated", []func(*Facts){neverExeced, terminatedBy(ByStranger)}, Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"a step: asked to end, and failed", []func(*Facts){neverExeced, askedBy(ByStranger, unix.SIGTERM, failed)},
			Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"a step: killed by its living parent", []func(*Facts){neverExeced, killedBy(BySpawner)}, Unknown, Deliberate, Unknown, Unknown, Deliberate},
		{"a worker: killed by a stranger", []func(*Facts){neverExeced, killedBy(ByStranger)}, Leaked, Unknown, Leaked, Leaked, Unknown},
		{"a worker: crashed", []func(*Facts){neverExeced, endsWith(event.Status(unix.SIGSEGV), Sent{Signal: unix.SIGSEGV, By: ByKernel})},
			Leaked, Unknown, Leaked, Leaked, Unknown},
		{"a worker: OOM", []func(*Facts){neverExeced, func(f *Facts) { f.Leaker.OOM = true }}, Leaked, Unknown, Leaked, Leaked, Unknown},
		{"a worker: failed", []func(*Facts){neverExeced, fails}, Unknown, Unknown, Unknown, Leaked, Unknown},
	}
	for _, d := range deaths {
		t.Run(d.name, func(t *testing.T) {
			end := func(more ...func(*Facts)) Facts { return with(append(slices.Clone(d.end), more...)...) }
			check(t, end(), d.none, false)
			check(t, end(nohup), d.own, false)
			check(t, end(preparedSession, preparedNull), d.prepared, false)
			check(t, end(abandoned), d.abandoned, false)
			check(t, end(setsid), d.session, false)
		})
	}
}

// TestReasons holds the rules one by one, with the fact that decides.
func TestReasons(t *testing.T) {
	const kill = "its spawner, pid 100 (python3), was killed by SIGKILL, sent by pid 7 (kill), 120s after the fork"
	tests := []struct {
		name    string
		facts   Facts
		want    string
		because string
	}{
		{"killed", leak(), Leaked, strings.Replace(kill, "120s", "2m0s", 1)},
		{"KEEP", with(func(f *Facts) { f.Keep = true }), Deliberate, "ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{"KEEP wins over a lease", with(func(f *Facts) { f.Keep, f.Leash, f.LeaseEnded = true, true, true }), Deliberate,
			"ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{"KEEP wins over what could not be read", with(func(f *Facts) { f.Keep, f.Errors = true, []string{"stdio: gone"} }),
			Deliberate, "ABOT_TRACE_KEEP=1 in its environment says to keep it"},
		{"main process", with(func(f *Facts) { f.Unit = Unit{Name: "web.service", Main: true} }), Deliberate,
			"it is the main process of the unit web.service"},
		{"control process", with(func(f *Facts) { f.Unit = Unit{Name: "web.service", Control: true} }), Deliberate,
			"it is a control process of the unit web.service"},
		{"candidate", with(leftOK, func(f *Facts) { f.Unit = Unit{Name: "db.service", Candidate: true} }), Deliberate,
			"what started the unit db.service left it there in order: it may become its main process"},
		{"container init", with(func(f *Facts) { f.ContainerInit = true }), Deliberate, "it is the init process of a container whose monitor lives"},
		{"login leader", with(func(f *Facts) { f.LoginLeader = true }), Deliberate, "it leads a login session"},
		{"lease ended", with(leftOK, setsid, func(f *Facts) { f.Leash, f.LeaseEnded = true, true }), Leaked,
			"the holder of its lease (ABOT_TRACE_LEASH=1) is dead"},
		{"a lease reaches into another place", with(func(f *Facts) { f.LeaseEnded, f.Place.Unit = true, "run-1.scope" }), Leaked,
			"the holder of its lease (ABOT_TRACE_LEASH=1) is dead"},
		{"a lease does not own a service", with(func(f *Facts) { f.LeaseEnded, f.Unit = true, Unit{Name: "a.service", Main: true} }),
			Deliberate, "it is the main process of the unit a.service"},
		{"a lease, and a fact that could not be read", with(func(f *Facts) { f.LeaseEnded, f.Errors = true, []string{"unit: time-out"} }),
			Unknown, "a fact could not be read: unit: time-out"},
		{"a scope of its own", with(func(f *Facts) { f.Place.Unit = "run-u3.scope" }), Deliberate,
			"it runs in the unit run-u3.scope, its spawner did not"},
		{"a session of its own", with(func(f *Facts) { f.Place = Place{Known: true, Unit: "session-7.scope", Session: "7"} }), Deliberate,
			"it belongs to the login session 7, its spawner did not"},
		{"a container of its own", with(func(f *Facts) { f.Place.Container = "c0ffee" }), Deliberate,
			"it runs in the container c0ffee, its spawner did not"},
		{"the spawner had left its place", with(func(f *Facts) { f.Place = Place{Known: true} }), Leaked, strings.Replace(kill, "120s", "2m0s", 1)},
		{"where the spawner stood is not known", with(func(f *Facts) { f.Place.Unit, f.LeakerPlace.Known = "run-u3.scope", false }), Leaked,
			strings.Replace(kill, "120s", "2m0s", 1)},
		{"next generation", with(func(f *Facts) { f.Succession = Succession{true, true, Yes} }), Deliberate,
			"it is the next generation of its spawner's service: it executed the same program, listens, and has children of its own"},
		{"same program, and it does not listen", with(func(f *Facts) { f.Succession = Succession{true, true, No} }), Leaked,
			strings.Replace(kill, "120s", "2m0s", 1)},
		{"same program without children", with(func(f *Facts) { f.Succession = Succession{true, false, Yes} }), Leaked,
			strings.Replace(kill, "120s", "2m0s", 1)},
		{"same program, and whether it listens is not known", with(func(f *Facts) { f.Succession = Succession{true, true, NotAsked} }), Unknown,
			"it executed its spawner's program and has children, and whether it listens is not known"},
		{"below a deliberate one", with(stranded, func(f *Facts) { f.Above.Verdict = Deliberate }), Deliberate,
			"its spawner pid 200 (sh) lives, and is deliberate"},
		{"below one of which it is not known", with(stranded, func(f *Facts) { f.Above.Verdict = Unknown }), Unknown,
			"its spawner pid 200 (sh) lives, and of that one it is not known"},
		{"detached below a leaked one", with(stranded, nohup), Deliberate, "it began to ignore SIGHUP (nohup)"},
		{"activation", with(neverExeced, killedBy(BySpawner), soon, func(f *Facts) { f.Client = Yes }), Deliberate,
			"it is connected to a socket of the process that forked its spawner, a step of its code, to launch it (activation)"},
		{"activation, by a helper that left before it was ended", with(neverExeced, leftOK, soon, func(f *Facts) { f.Client = Yes }), Deliberate,
			"it is connected to a socket of the process that forked its spawner, a step of its code, to launch it (activation)"},
		{"setsid and nobody at the other end", with(leftOK, soon, setsid, abandoned), Unknown,
			"a new session is its only sign of detaching, and nobody is at the other end of its standard output and standard error"},
		{"start_new_session and nobody at the other end", with(leftOK, soon, preparedSession, abandoned), Unknown,
			"a new session is its only sign of detaching, and nobody is at the other end of its standard output and standard error"},
		{"setsid, and the other ends could not be read", with(leftOK, setsid, func(f *Facts) { f.Ends[1] = EndUnknown }), Unknown,
			"a new session is its only sign of detaching, and whether anybody is at the other ends of its standard input, output and error could not be read"},
		{"nohup and nobody at the other end", with(leftOK, soon, nohup, abandoned), Deliberate, "it began to ignore SIGHUP (nohup)"},
		{"setsid sh -c 'x </dev/null >/dev/null &'", with(leftOK, soon, wrapped(time.Second, null)), Deliberate,
			"its launcher's code put it into a new session (setsid) before it executed"},
		{"setsid sh -c 'x &'", with(leftOK, soon, wrapped(time.Second, pipe(1))), Unknown,
			"its spawner left in order and it shows no sign of detaching by itself: that could be either"},
		{"a service's main process that leaves its workers", with(leftOK, soon, wrapped(time.Minute, null)), Unknown,
			"its spawner left in order and it shows no sign of detaching by itself: that could be either"},
		{"a wrapper that was killed", with(soon, wrapped(time.Second, null)), Leaked,
			"its spawner, pid 100 (python3), was killed by SIGKILL, sent by pid 7 (kill), 20ms after the fork"},
		{"prepared, and the launcher stayed", with(leftOK, preparedNull), Unknown,
			"its spawner prepared it to be detached, but left only 2m0s after the fork"},
		{"failed, and who reads its output is not known", with(fails, func(f *Facts) { f.Ends[2] = EndUnknown }), Unknown,
			"its spawner failed, and whether anybody is at the other ends of its standard input, output and error is not known"},
		{"failed, and one end that nobody holds is enough", with(fails, func(f *Facts) { f.Ends = [3]End{EndUnknown, EndAbandoned, EndHeld} }), Leaked,
			"its spawner failed and left it behind with nobody at the other end of its standard output"},
		{"unit that is being stopped", with(inUnit("web.service", "deactivating", "control-group")), Unknown,
			"its unit web.service is being stopped or restarted, which ends what is left in it"},
		{"main process killed", with(inUnit("web.service", "active", "control-group"), func(f *Facts) { f.Unit.LeakerMain = true }), Unknown,
			"its unit web.service is being stopped or restarted, which ends what is left in it"},
		{"main process killed, KillMode=process", with(inUnit("web.service", "active", "process"), func(f *Facts) { f.Unit.LeakerMain = true }), Leaked,
			strings.Replace(kill, "120s", "2m0s", 1)},
		{"unit that is down", with(terminatedBy(ByManager), inUnit("web.service", "inactive", "mixed"), func(f *Facts) { f.Unit.Ended = true }), Leaked,
			"its unit web.service was stopped, with KillMode=mixed, and it is still there"},
		{"unit that is down, and a sign", with(terminatedBy(ByManager), inUnit("web.service", "inactive", "mixed"), nohup,
			func(f *Facts) { f.Unit.Ended = true }), Unknown,
			"its unit web.service was stopped, but it had detached by itself: that could be either"},
		{"unit that is down, SendSIGKILL=no", with(terminatedBy(ByManager), inUnit("web.service", "failed", "control-group"),
			func(f *Facts) { f.Unit.Ended, f.Unit.NoFinalKill = true, true }), Deliberate,
			"its unit web.service was stopped, and has SendSIGKILL=no, which leaves on purpose what does not end"},
		{"unit that is being stopped, SendSIGKILL=no", with(terminatedBy(ByManager), inUnit("web.service", "deactivating", "control-group"),
			func(f *Facts) { f.Unit.NoFinalKill = true }), Unknown,
			"its unit web.service is being stopped or restarted, which ends what is left in it"},
		{"unit that is down, KillMode=process", with(terminatedBy(ByManager), inUnit("ssh.service", "inactive", "process"),
			func(f *Facts) { f.Unit.Ended = true }), Unknown,
			"its spawner left in order and it shows no sign of detaching by itself: that could be either"},
		{"unit that is down, KillMode=process, and a sign", with(terminatedBy(ByManager), inUnit("cron.service", "inactive", "process"), nohup,
			func(f *Facts) { f.Unit.Ended = true }), Deliberate, "it began to ignore SIGHUP (nohup)"},
		{"KillMode=process does not silence a leak", with(inUnit("cron.service", "active", "process")), Leaked, strings.Replace(kill, "120s", "2m0s", 1)},
		{"KillMode=process does not silence a detach", with(inUnit("cron.service", "active", "process"), leftOK, nohup), Deliberate,
			"it began to ignore SIGHUP (nohup)"},
		{"a unit that starts protects its candidates only", with(inUnit("job.service", "activating", "control-group")), Leaked,
			strings.Replace(kill, "120s", "2m0s", 1)},
		{"a unit that reloads protects its candidates only", with(inUnit("job.service", "reloading", "control-group")), Leaked,
			strings.Replace(kill, "120s", "2m0s", 1)},
		{"not observed", with(func(f *Facts) { f.Observed = false }), Unknown, "who spawned it was not observed"},
		{"marks not read", with(func(f *Facts) { f.MarksKnown = false }), Unknown, "the marks in its environment could not be read"},
		{"status not known", with(func(f *Facts) { f.Leaker.StatusKnown = false }), Unknown, "how its spawner ended is not known"},
		{"state at the fork not known", with(func(f *Facts) { f.LaunchKnown = false }), Unknown, "its session and signal state are not known"},
		{"state at the exec not known", with(func(f *Facts) { f.ExecKnown = false }), Unknown, "its session and signal state are not known"},
		{"state at the death not known", with(func(f *Facts) { f.NowKnown = false }), Unknown, "its session and signal state are not known"},
		{"stdio not known", with(func(f *Facts) { f.Now.StdioKnown = false }), Unknown, "its standard input, output and error are not known"},
		{"nothing known", Facts{}, Unknown, "who spawned it was not observed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Judge(tt.facts)
			if got.Word != tt.want || got.Evidence[0] != tt.because || got.Provisional {
				t.Errorf("got %s (provisional %v) because %q, want %s because %q", got.Word, got.Provisional, got.Evidence[0], tt.want, tt.because)
			}
		})
	}
}

// TestProvisional holds which pending facts leave a verdict open.
func TestProvisional(t *testing.T) {
	pending := func(p Pending) func(*Facts) { return func(f *Facts) { f.Pending = p } }
	ends := func(f *Facts) { f.Ends = [3]End{EndUnknown, EndUnknown, EndUnknown}; f.Pending.Ends = true }
	unit := func(f *Facts) { f.Unit.Name, f.Pending.Unit = "a.service", true }
	young := pending(Pending{Signs: true})
	tests := []struct {
		name        string
		facts       Facts
		want        string
		provisional bool
	}{
		{"killed, long after the fork", leak(), Leaked, false},
		{"killed, just after the fork", with(young, soon), Leaked, true},
		{"killed, and the other ends change nothing", with(ends), Leaked, false},
		{"killed, and the manager's word is pending", with(unit), Leaked, true},
		{"failed, and the other ends are pending", with(fails, ends), Unknown, true},
		{"left at once, without a sign yet (daemon(3))", with(forked, leftOK, soon, young), Unknown, true},
		{"left, with a sign", with(forked, leftOK, soon, young, nohup), Deliberate, false},
		{"left, with a session so far, and the other ends are pending", with(leftOK, setsid, ends), Deliberate, true},
		{"left, with a session so far, and more signs may come", with(leftOK, setsid, abandoned, young), Unknown, true},
		{"left long after the fork", with(leftOK), Unknown, false},
		{"marks are pending", with(func(f *Facts) { f.MarksKnown, f.Pending.Marks = false, true }), Unknown, true},
		{"KEEP, and all is pending", with(young, ends, unit, func(f *Facts) { f.Keep = true }), Deliberate, false},
		{"below a provisional one", with(stranded, func(f *Facts) { f.Above.Provisional = true }), Leaked, true},
		{"activation is asked for", with(neverExeced, killedBy(BySpawner), pending(Pending{Client: true})), Unknown, true},
		{"whether it listens is asked for", with(func(f *Facts) { f.Succession = Succession{SameProgram: true, Children: true}; f.Pending.Listens = true }),
			Unknown, true},
		{"who is at the other ends may let go", with(fails, func(f *Facts) { f.Pending.Ends = true }), Unknown, true},
		{"who is at the other ends makes no difference", with(func(f *Facts) { f.Pending.Ends = true }), Leaked, false},
		{"whether it listens makes no difference", with(func(f *Facts) { f.Succession = Succession{SameProgram: true}; f.Pending.Listens = true }),
			Leaked, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, tt.facts, tt.want, tt.provisional) })
	}
}

// TestMissing holds which single fact would settle what is not known.
func TestMissing(t *testing.T) {
	tests := []struct {
		name  string
		facts Facts
		want  string
	}{
		{"left", with(leftOK), "a sign of its own that it is to outlive its spawner: a session, SIGHUP ignored, or standard input, output and error replaced"},
		{"failed, no pipe and no socket", with(fails, func(f *Facts) { f.Ends = [3]End{} }), "ABOT_TRACE_KEEP=1 in its environment"},
		{"failed, somebody is at the other ends", with(fails), "nobody at the other end of its standard input, output or error"},
		{"failed, ends not known", with(fails, func(f *Facts) { f.Ends[0] = EndUnknown }), "nobody at the other end of its standard input, output or error"},
		{"not read", with(func(f *Facts) { f.Errors = []string{"environment: x"} }), "what could not be read: environment: x"},
		{"unit stops", with(inUnit("a.service", "deactivating", "mixed")), "its unit being down"},
	}
	for _, tt := range tests {
		if got := Judge(tt.facts); got.Missing != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got.Missing, tt.want)
		} else if last := got.Evidence[len(got.Evidence)-1]; last != "it would be settled by "+got.Missing {
			t.Errorf("%s: the evidence ends with %q", tt.name, last)
		}
	}
}

func TestEvidence(t *testing.T) {
	f := with(abandoned, preparedNull, func(f *Facts) {
		f.Unit, f.Leash, f.Now.Tty = Unit{Name: "web.service", Known: true, State: "active", KillMode: "mixed"}, true, true
		f.Lived = 1234567 * time.Nanosecond
	})
	want := []string{
		"its spawner, pid 100 (python3), was killed by SIGKILL, sent by pid 7 (kill), 1.23ms after the fork",
		"its launcher's code gave it /dev/null or files for standard input, output and error",
		"it has a controlling terminal",
		"nobody is at the other end of its standard output and standard error",
		"its cgroup belongs to the unit web.service (active, KillMode=mixed), whose main process it is not",
		"ABOT_TRACE_LEASH=1 is in its environment",
		"adopted by systemd (init)",
	}
	if got := Judge(f).Evidence; !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestEvidenceListsEveryError makes sure that nothing that could not be read goes untold.
func TestEvidenceListsEveryError(t *testing.T) {
	evidence := Judge(with(func(f *Facts) { f.Errors = []string{"environ: EACCES", "unit: time-out"} })).Evidence
	for _, want := range []string{"a fact could not be read: environ: EACCES", "a fact could not be read: unit: time-out"} {
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

// TestSender: a shell may be pid 1 as well as a service manager.
func TestSender(t *testing.T) {
	tests := []struct {
		sent Sent
		want string
	}{
		{Sent{By: ByTerminal}, ", sent by its terminal"},
		{Sent{By: ByItself, Who: "pid 7 (sh)"}, ", raised by itself"},
		{Sent{By: ByManager, Who: "pid 1 (bash)"}, ", sent by pid 1 (bash), the init or service manager above it"},
		{Sent{By: BySpawner, Who: "pid 7 (sh)"}, ", sent by pid 7 (sh), which had spawned it"},
		{Sent{By: ByStranger, Who: "pid 7 (sh)"}, ", sent by pid 7 (sh)"},
		{Sent{By: ByKernel}, ""},
	}
	for _, tt := range tests {
		if got := tt.sent.by(); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.sent, got, tt.want)
		}
	}
}

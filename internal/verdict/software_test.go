// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// lived is how long after the orphan's fork its spawner died.
func lived(d time.Duration) func(*Facts) { return func(f *Facts) { f.Lived = d } }

// serviceWorker is one that a service forked and that has given no sign since.
func serviceWorker(f *Facts) { forked(f); bornNull(f); lived(time.Hour)(f) }

// ownSession is where the orphan stands and its spawner did not.
func ownSession(f *Facts) { f.Place = Place{Known: true, Unit: "session-9.scope", Session: "9"} }

// activated is what dbus-daemon launches: by a helper that it forks, and kills once the
// service has come to the bus.
func activated(f *Facts) {
	neverExeced(f)
	killedBy(BySpawner)(f)
	lived(40 * time.Millisecond)(f)
	f.Client = Yes
}

// TestSoftware holds what real software was seen to do, as recorded facts: each row is a
// case that was judged wrongly once, or that is near to one.
func TestSoftware(t *testing.T) {
	unit := func(state, mode string) func(*Facts) { return inUnit("app.service", state, mode) }
	leakerMain := func(f *Facts) { f.Unit.LeakerMain = true }
	ended := func(f *Facts) { f.Unit.Ended = true }
	tests := []struct {
		name  string
		facts Facts
		want  string
	}{
		// How detaching and leaking look, one by one.
		{"nohup cmd &", with(leftOK, soon, nohup), Deliberate},
		{"setsid cmd &", with(leftOK, soon, setsid, nulled), Deliberate},
		{"double fork", with(neverExeced, leftOK, soon, daemoned), Deliberate},
		{"double fork, redirected before the second fork", with(neverExeced, leftOK, soon, forked, func(f *Facts) {
			f.Leaker.Start, f.Leaker.StartKnown = f.Launch, true
			f.Now.Session, f.Now.Stdio = spawner, event.Stdio{null, null, null}
			f.Launch = f.Now
		}), Deliberate},
		{"worker of one that died so", with(neverExeced, forked, func(f *Facts) {
			f.Leaker.Start, f.Leaker.StartKnown = f.Launch, true
			f.Now.Session, f.Now.Stdio = spawner, event.Stdio{null, null, null}
			f.Launch = f.Now
		}), Leaked},
		{"node detached and unref", with(leftOK, soon, preparedSession, preparedNull), Deliberate},
		{"tmux server", with(neverExeced, leftOK, soon, daemoned), Deliberate},
		{"cmd & then exit", with(leftOK, soon, func(f *Facts) { f.Exec.Stdio[0], f.Now.Stdio[0] = null, null }), Unknown},
		{"shell killed: foreground child", leak(), Leaked},
		{"shell killed: pipeline", with(func(f *Facts) { f.Now.Stdio[1] = pipe(9) }), Leaked},
		{"node killed: spawn()", with(func(f *Facts) { f.Now.Stdio = event.Stdio{socket(1), socket(2), socket(3)} }), Leaked},

		// Meant, and called leaked once.
		{"dconf, gvfsd, xfconfd, polkitd: D-Bus activation", with(activated), Deliberate},
		{"bash raises its own SIGHUP again when the terminal goes: disowned job", with(hungUp, func(f *Facts) {
			f.Launch.Session, f.Exec.Session, f.Now.Session = spawner, spawner, spawner
			f.Ends = [3]End{}
		}), Deliberate},
		{"the same with fish, which handles SIGHUP", with(askedBy(ByTerminal, unix.SIGHUP, 1<<8), func(f *Facts) {
			f.Launch.Session, f.Exec.Session, f.Now.Session = spawner, spawner, spawner
			f.Ends = [3]End{}
		}), Deliberate},
		{"a closed tmux pane: nohup'd job", with(endsWith(event.Status(unix.SIGHUP), Sent{Signal: unix.SIGHUP, By: BySpawner}), nohup), Deliberate},
		{"systemd-run --scope, launcher killed", with(func(f *Facts) { f.Place.Unit = "run-r1.scope" }), Deliberate},
		{"an application in its scope, session manager killed", with(preparedSession, func(f *Facts) { f.Place.Unit = "app-x.scope" }), Deliberate},
		{"job of cron, cron restarted outside systemd", with(neverExeced, terminatedBy(ByStranger), serviceWorker), Unknown},
		{"git-daemon connection, daemon terminated", with(neverExeced, terminatedBy(ByStranger)), Unknown},
		{"postfix worker drains while its unit stops", with(serviceWorker, askedBy(ByManager, unix.SIGTERM, left), unit("deactivating", "control-group"), leakerMain), Unknown},
		{"the same before the manager's signal came through", with(serviceWorker, askedBy(ByManager, unix.SIGTERM, left), unit("active", "control-group")), Unknown},
		{"nginx master after USR2, old one killed", with(neverExeced, func(f *Facts) { f.Succession = Succession{true, true, Yes} }), Deliberate},
		{"gunicorn after USR2, old one left", with(leftOK, func(f *Facts) { f.Succession = Succession{true, true, Yes} }), Deliberate},
		{"setsid nohup job below a shell whose agent was killed", with(stranded, setsid, ignores, nulled), Deliberate},
		{"training run with setsid nohup below such a shell", with(stranded, func(f *Facts) {
			setsid(f)
			ignores(f)
			f.Now.Stdio = event.Stdio{null, ownFile, ownFile}
		}), Deliberate},
		{"what it forks", with(stranded, func(f *Facts) { f.Above.Verdict = Deliberate }), Deliberate},

		// Leaked, and called deliberate once.
		{"php-fpm worker, app under nohup killed later", with(serviceWorker), Leaked},
		{"php-fpm worker that replaced its stdio, master killed", with(serviceWorker, func(f *Facts) {
			f.Launch.Stdio = event.Stdio{null, pipe(1), pipe(2)}
		}), Leaked},
		{"unicorn worker that ignores SIGHUP, master killed", with(forked, ignores), Leaked},
		{"the same, master left", with(forked, ignores, leftOK), Deliberate},
		{"squid worker, parent crashed", with(serviceWorker, endsWith(event.Status(unix.SIGABRT), Sent{Signal: unix.SIGABRT, By: ByItself})), Leaked},
		{"PostgreSQL backend, which makes a session itself", with(serviceWorker, setsid), Unknown},
		{"ssh command without a terminal, connection broken", with(preparedSession, fails, abandoned, lived(time.Hour)), Leaked},
		{"Playwright browser, driver killed", with(preparedSession), Leaked},
		{"a worker below nohup, its master killed", with(preparedHup, preparedNull, lived(time.Hour)), Leaked},
		{"jupyter kernel, server killed", with(preparedSession), Leaked},
		{"honcho child, honcho killed", with(preparedSession), Leaked},
		{"Erlang port, VM killed", with(preparedSession, abandoned), Leaked},
		{"container exec, its shell killed", with(preparedSession, killedBy(BySpawner)), Leaked},
		{"main process leaves with 0 after seconds, leaving workers", with(leftOK, serviceWorker, lived(30*time.Second)), Unknown},
		{"worker of a oneshot that runs, its parent killed", with(unit("activating", "control-group")), Leaked},
		{"child of a start-post, killed", with(unit("activating", "control-group"), killedBy(BySpawner)), Leaked},
		{"child during a reload, parent killed", with(unit("reloading", "control-group")), Leaked},
		{"unshare -pf killed: init of the namespace", with(func(f *Facts) { f.ContainerInit = false }), Leaked},
		{"bwrap --unshare-pid under an agent, killed", with(killedBy(BySpawner)), Leaked},
		{"script in an ssh session, killed", with(forked, setsid, func(f *Facts) { f.Now.Tty = true }), Unknown},
		{"left over by script(1), which its session's end hung up", with(preparedSession, killedBy(ByStranger)), Leaked},

		// daemon(3): the parent leaves before the child's setsid, and nothing executes.
		{"daemon(3), looked at at once", with(forked, leftOK, soon), Unknown},
		{"daemon(3), looked at again", with(daemoned, leftOK, soon), Deliberate},
		{"ssh h 'nohup cmd &' under systemd", with(leftOK, soon, nohup, inUnit("ssh.service", "active", "process")), Deliberate},

		// KillMode=process.
		{"cron job that detaches", with(leftOK, soon, setsid, nulled, inUnit("cron.service", "active", "process")), Deliberate},
		{"cron job whose shell was killed", with(inUnit("cron.service", "active", "process")), Leaked},
		{"containerd-shim, containerd stopped", with(terminatedBy(ByManager), setsid, nulled, inUnit("containerd.service", "inactive", "process"), ended), Deliberate},
		{"ssh session, ssh stopped", with(terminatedBy(ByManager), ownSession), Deliberate},
		{"atd job, atd stopped", with(askedBy(ByManager, unix.SIGTERM, left), forked, inUnit("atd.service", "inactive", "process"), ended), Unknown},

		// Units that are stopped, restarted, killed.
		{"smbd worker outlives the stop of its unit", with(serviceWorker, askedBy(ByManager, unix.SIGTERM, left), unit("inactive", "control-group"), ended), Leaked},
		{"main process killed, unit restarts", with(serviceWorker, unit("active", "control-group"), leakerMain), Unknown},
		{"main process killed, unit is up again, the worker still there", with(serviceWorker, unit("active", "control-group"), leakerMain, ended), Leaked},
		{"ExecStart of Type=forking is done", with(leftOK, soon, forked, unit("activating", "control-group"), func(f *Facts) { f.Unit.Candidate = true }), Deliberate},
		{"main process of a user's service", with(leftOK, func(f *Facts) { f.Unit = Unit{Name: "agent.service", User: true, Main: true} }), Deliberate},
		{"worker in a user's service, its parent killed", with(func(f *Facts) { f.Unit = Unit{Name: "agent.service", User: true} }), Leaked},
		{"user manager stops a service", with(terminatedBy(ByManager), func(f *Facts) { f.Unit = Unit{Name: "agent.service", User: true} }), Unknown},

		// Nobody at the other end.
		{"unredirected nohup", with(leftOK, soon, ignores, abandoned), Deliberate},
		{"unredirected setsid -f", with(neverExeced, leftOK, soon, setsid, abandoned), Unknown},
		{"unredirected cmd & disown", with(leftOK, soon, abandoned), Unknown},
		{"gpg-agent: only standard error", with(daemoned, neverExeced, leftOK, soon, func(f *Facts) { f.Ends = [3]End{EndNone, EndNone, EndAbandoned} }), Deliberate},

		// Who ended it.
		{"timeout(1) ended the job", with(terminatedBy(BySpawner)), Leaked},
		{"timeout(1) ended the job, which had nohup'd something", with(terminatedBy(BySpawner), nohup), Unknown},
		{"gunicorn's master aborted a worker", with(neverExeced, endsWith(event.Status(unix.SIGABRT), Sent{Signal: unix.SIGABRT, By: BySpawner}), lived(time.Minute)), Unknown},
		{"Celery worker killed -9", with(neverExeced, serviceWorker), Leaked},
		{"multiprocessing worker out of memory", with(neverExeced, func(f *Facts) { f.Leaker.OOM = true }), Leaked},

		// Deaths inside a leak.
		{"shell below a killed agent leaves in its turn", with(leftOK, func(f *Facts) { f.Leaker.Leaked = true }), Leaked},
		{"Erlang port, the VM killed, and so its starter left", with(leftOK, soon, preparedSession, abandoned,
			func(f *Facts) { f.Leaker.Leaked, f.Leaker.LeakedWith = true, true }), Leaked},
		{"what a program that was left behind prepares to be detached", with(leftOK, soon, preparedSession,
			func(f *Facts) { f.Leaker.Leaked = true }), Deliberate},
		{"what it had detached", with(leftOK, nohup, func(f *Facts) { f.Leaker.Leaked = true }), Deliberate},
		{"it fails", with(fails, func(f *Facts) { f.Leaker.Leaked = true }), Leaked},

		// Launchers in between.
		{"sh -c 'cmd &' (os.system)", with(leftOK, soon), Unknown},
		{"R's PSOCK, its real owner killed later", with(killedBy(ByStranger), func(f *Facts) { f.Tied = true }), Leaked},
		{"npm, sh and node: npm terminated", with(terminatedBy(ByStranger)), Leaked},
		{"forkserver worker, its owner killed", with(stranded), Leaked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, tt.facts, tt.want, false) })
	}
}

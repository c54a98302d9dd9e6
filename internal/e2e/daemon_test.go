// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// patience bounds every wait for a fact. It is no measure of speed.
const patience = 30 * time.Second

func binary() string { return os.Getenv(binaryVar) }

// A log is what a process has written so far.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A daemon is the program at work, with a configuration of the test's. It can be ended
// and started again: log and events are those of all its lives.
type daemon struct {
	t      testing.TB
	cmd    *exec.Cmd
	dir    string
	run    string   // where the socket is: in memory, as in service
	bpf    string   // a BPF file system, of newKept
	before []string // a command that becomes the daemon, where it is not to be one at once
	args   []string // beside those of every daemon
	env    []string
	client *api.Client
	log    log
	stop   func()   // ends the following of the present life, once it has come to its end
	dies   bool     // the test kills it
	stderr *os.File // where the daemon's lines go instead of log, unless nil

	mu     sync.Mutex
	events []*wire.Event
}

// unhurried is a budget that holds nothing back.
const unhurried = "budget: {warm_up: 0s, pause: 0s, kills_per_minute: 10000, respawn: 0s, stop_file: DIR/stop}\n"

// ruleless watches and ends nothing.
const ruleless = "rules: []\n"

// armed are rules that end every leaked tree at once.
const armed = unhurried + `
rules:
  - {name: all, mode: enforce, match: {verdict: [leaked]}, orphaned_for: 0s, grace: 5s}
`

// startDaemon runs a daemon until the test ends. DIR in the configuration is the
// test's directory.
func startDaemon(t testing.TB, config string) *daemon {
	t.Helper()
	d := newDaemon(t, config)
	d.start()
	return d
}

// newDaemon prepares a daemon that start starts.
func newDaemon(t testing.TB, config string) *daemon {
	t.Helper()
	run, err := os.MkdirTemp("/run", "abot-trace-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	d := &daemon{t: t, dir: t.TempDir(), run: run, stop: func() {}}
	// Other users are to reach it.
	if err := os.Chmod(run, 0o755); err != nil {
		t.Fatal(err)
	}
	d.configure(config)
	d.client = api.NewClient(d.socket())
	t.Cleanup(d.end)
	return d
}

// start starts the daemon, waits until it has looked at every process, and follows what
// it tells.
func (d *daemon) start() {
	d.t.Helper()
	d.launch()
	d.ready()
}

// launch starts the daemon and does not wait for it.
func (d *daemon) launch() {
	d.t.Helper()
	argv := append(slices.Clone(d.before), binary(), "daemon", "--config", d.config(), "--socket", d.socket())
	argv = append(argv, d.args...)
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Env = append(alone(), d.env...)
	d.cmd.Stderr = &d.log
	if d.stderr != nil {
		d.cmd.Stderr = d.stderr
	}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
}

// alone is the environment of a program that no service manager has started.
func alone() []string {
	env := []string{"ABOT_TRACE_NO_SYSTEMD=1"}
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "LISTEN_FDS", "STATE_DIRECTORY":
		default:
			env = append(env, v)
		}
	}
	return env
}

// ready waits until the daemon that was launched has looked at every process.
func (d *daemon) ready() {
	d.t.Helper()
	d.await("the first resync", func() bool {
		if d.gone() {
			d.t.Fatalf("the daemon has ended: %v", d.cmd.Wait())
		}
		status, err := d.client.Status(d.t.Context())
		return err == nil && status.Events[wire.TypeResync] > 0
	})
	d.follow()
}

// gone reports whether the daemon is dead and waits to be reaped.
func (d *daemon) gone() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, d.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

// follow takes what is told from the beginning of this life on.
func (d *daemon) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.client.Events(ctx, []string{wire.TypeOrphan, wire.TypeVerdict, wire.TypeLeak, wire.TypeTrust, wire.TypeKill, wire.TypeAlert, wire.TypeResync, wire.TypeLost, wire.TypeSignal}, 0, true,
			func(e *wire.Event) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.events = append(d.events, e)
				return nil
			})
	}()
	d.stop = func() {
		<-done
		cancel()
	}
	d.await("the first resync is followed", func() bool {
		return d.find(func(e *wire.Event) bool { return e.Type == wire.TypeResync }) != nil
	})
}

func (d *daemon) socket() string { return filepath.Join(d.run, "socket") }
func (d *daemon) config() string { return filepath.Join(d.dir, "config.yaml") }

// configure replaces the configuration, and no more: see reload.
func (d *daemon) configure(config string) {
	d.t.Helper()
	if err := os.WriteFile(d.config(), []byte(strings.ReplaceAll(config, "DIR", d.dir)), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) signal(sig unix.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Fatal(err)
	}
}

// end stops the daemon, if it runs, as systemd does, and wants a good end.
func (d *daemon) end() {
	if d.cmd != nil {
		if state := d.endBy(unix.SIGTERM); !state.Success() && !d.dies {
			d.t.Errorf("daemon: %v", state)
		}
	}
	text := d.log.String()
	if strings.Contains(text, "DATA RACE") {
		d.t.Error("the daemon has a data race")
	}
	if d.t.Failed() {
		d.t.Logf("the daemon's log:\n%s", text)
	}
}

// endBy ends this life of the daemon by a signal.
func (d *daemon) endBy(sig unix.Signal) *os.ProcessState {
	d.t.Helper()
	_ = d.cmd.Process.Signal(sig)
	return d.ended()
}

// ended waits for the end of this life.
func (d *daemon) ended() *os.ProcessState {
	d.t.Helper()
	process := d.cmd.Process
	overdue := time.AfterFunc(patience, func() {
		d.t.Errorf("the daemon has not ended in %v", patience)
		_ = process.Signal(unix.SIGQUIT) // it says where it is
	})
	_ = d.cmd.Wait()
	overdue.Stop()
	state := d.cmd.ProcessState
	d.cmd = nil
	d.stop()
	d.stop = func() {}
	return state
}

// await is eventually, with the daemon's log where it fails.
func (d *daemon) await(what string, ok func() bool) {
	d.t.Helper()
	proctest.Eventually(d.t, what, ok)
}

// wantLog waits for the log to match a pattern: its lines come a moment after the events.
func (d *daemon) wantLog(pattern string) {
	d.t.Helper()
	d.await(pattern+" in the log", func() bool { return regexp.MustCompile(pattern).MatchString(d.log.String()) })
}

// find returns the first event that pick picks, nil if there is none yet.
func (d *daemon) find(pick func(*wire.Event) bool) *wire.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if pick(e) {
			return e
		}
	}
	return nil
}

// kill waits for the kill event about pid that pick, unless nil, picks.
func (d *daemon) kill(pid int, pick func(*wire.Kill) bool) *wire.Kill {
	d.t.Helper()
	var found *wire.Kill
	d.await(fmt.Sprintf("a kill of %d", pid), func() bool {
		e := d.find(func(e *wire.Event) bool {
			return e.Kill != nil && outcomeOf(e.Kill, pid) != nil && (pick == nil || pick(e.Kill))
		})
		if e != nil {
			found = e.Kill
		}
		return found != nil
	})
	return found
}

func outcomeOf(k *wire.Kill, pid int) *wire.Killed {
	for i := range k.Processes {
		if int(k.Processes[i].PID) == pid {
			return &k.Processes[i]
		}
	}
	return nil
}

func outcomeIs(outcome string) func(*wire.Kill) bool {
	return func(k *wire.Kill) bool { return k.Outcome == outcome }
}

// orphan waits for the orphaning of pid.
func (d *daemon) orphan(pid int) *wire.Orphan {
	d.t.Helper()
	var e *wire.Event
	d.await(fmt.Sprintf("the orphaning of %d", pid), func() bool {
		e = d.find(func(e *wire.Event) bool { return e.Type == wire.TypeOrphan && int(e.Process.PID) == pid })
		return e != nil
	})
	return e.Process.Orphan
}

// settledOrphan waits until the verdict on an orphan is final, and returns the orphan.
func (d *daemon) settledOrphan(pid int) *wire.Orphan {
	d.t.Helper()
	var e *wire.Event
	d.await(fmt.Sprintf("the final verdict on %d", pid), func() bool {
		e = d.find(func(e *wire.Event) bool {
			return (e.Type == wire.TypeOrphan || e.Type == wire.TypeVerdict) && int(e.Process.PID) == pid && !e.Process.Orphan.Provisional
		})
		return e != nil
	})
	return e.Process.Orphan
}

// settled waits until the daemon has acted on a tree that was left behind after
// everything until now: what it has not ended by then, it has spared. It wants an
// armed rule for leaked trees.
func (d *daemon) settled(t testing.TB) {
	t.Helper()
	f := startFamily(t, "parent", "leaf", "control")
	control := f.await("control", 1)[0]
	f.killMain()
	control.mustDie()
	k := d.kill(control.pid, outcomeIs(wire.KillDone))
	if got := outcomeOf(k, control.pid).Outcome; got != wire.OutcomeDied {
		t.Errorf("the control: %s", got)
	}
	if _, err := d.client.Cleanup(context.Background(), api.CleanupRequest{Enforce: true}); err != nil {
		t.Error(err)
	}
}

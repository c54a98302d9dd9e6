// SPDX-License-Identifier: Apache-2.0

//go:build vm

package clock

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// patience bounds every wait for a fact, in an emulated machine.
const patience = time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// wait is how long a rule of the test waits before it acts.
const wait = 4 * time.Second

const rules = `
budget: {warm_up: 0s, pause: 0s, kills_per_minute: 1000, stop_file: DIR/stop}
rules:
  - {name: soon, mode: enforce, match: {verdict: [leaked], cmdline: "^sleep 333$"}, orphaned_for: 4s, grace: 1s}
  - {name: later, mode: enforce, match: {verdict: [leaked], cmdline: "^sleep 444$"}, orphaned_for: 1h, grace: 1s}
`

type daemon struct {
	t      *testing.T
	dir    string
	client *api.Client
	cmd    *exec.Cmd

	mu     sync.Mutex
	log    bytes.Buffer
	events []*wire.Event
}

// Write takes what the daemon logs.
func (d *daemon) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

// start starts it and follows what it tells, until it ends.
func (d *daemon) start(ctx context.Context) {
	d.t.Helper()
	at := func(name string) string { return filepath.Join(d.dir, name) }
	d.cmd = exec.Command("/bin/abot-trace", "daemon", "--config", at("config.yaml"), "--socket", at("socket"), "--state", at("state"), "--pins", "/sys/fs/bpf/clock")
	d.cmd.Stderr = d
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.client = api.NewClient(at("socket"))
	eventually(d.t, "the daemon is ready", func() bool {
		s, err := d.client.Status(ctx)
		return err == nil && s.Events[wire.TypeResync] > 0
	})
	go func() {
		_ = d.client.Events(ctx, []string{wire.TypeOrphan, wire.TypeKill, wire.TypeAlert}, 0, true, func(e *wire.Event) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events = append(d.events, e)
			return nil
		})
	}()
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("daemon: %v", err)
	}
}

// leave leaves a process behind, whose parent was killed, and returns its pid when it is
// reported as leaked.
func (d *daemon) leave(command string) (pid int, since uint64) {
	d.t.Helper()
	said, say, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	stdin, keep, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { keep.Close() })
	parent := exec.Command("sh", "-c", command+" & echo $!; wait")
	parent.Stdin, parent.Stdout, parent.Stderr = stdin, say, say
	if err := parent.Start(); err != nil {
		d.t.Fatal(err)
	}
	say.Close()
	stdin.Close()
	if _, err := fmt.Fscan(said, &pid); err != nil {
		d.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	_ = parent.Process.Kill()
	_ = parent.Wait()
	d.t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	e := d.event(fmt.Sprintf("%s is reported", command), func(e *wire.Event) bool {
		return e.Type == wire.TypeOrphan && int(e.Process.PID) == pid
	})
	if e.Process.Orphan.Verdict != wire.VerdictLeaked {
		d.t.Fatalf("%s: %+v", command, e.Process.Orphan)
	}
	return pid, e.Process.Orphan.SinceNS
}

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

func (d *daemon) event(what string, pick func(*wire.Event) bool) (e *wire.Event) {
	d.t.Helper()
	eventually(d.t, what, func() bool {
		e = d.find(pick)
		return e != nil
	})
	return e
}

// step sets the wall clock.
func step(t *testing.T, by time.Duration) {
	t.Helper()
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		t.Fatalf("set the clock: %v", err)
	}
}

// TestSteps sets the clock by hours, forth and back, while rules wait. They wait as long
// as they were told to, and nobody is ended sooner, later or at all for the step; ages
// are the same, and the daemon finds nothing wrong with itself.
func TestSteps(t *testing.T) {
	d := &daemon{t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(d.dir, "config.yaml"), []byte(strings.ReplaceAll(rules, "DIR", d.dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Logf("the daemon's log:\n%s", &d.log)
		}
	}()
	d.start(t.Context())
	patient, since := d.leave("sleep 444")
	for _, by := range []time.Duration{3 * time.Hour, -30 * time.Hour} {
		victim, left := d.leave("sleep 333")
		step(t, by)
		kill := d.event("the rule acts", func(e *wire.Event) bool {
			return e.Kill != nil && len(e.Kill.Processes) == 1 && int(e.Kill.Processes[0].PID) == victim
		})
		if waited := time.Duration(kill.TimeNS - left); waited < wait || kill.Kill.Rule != "soon" || kill.Kill.Outcome != wire.KillDone {
			t.Errorf("step %v: after %v: %+v", by, waited, kill.Kill)
		}
		if off := time.Since(kill.Time).Abs(); off > patience {
			t.Errorf("step %v: the kill is told to be at %v, %v off", by, kill.Time, off)
		}
		p, err := d.client.Process(t.Context(), int32(patient))
		if err != nil {
			t.Fatal(err)
		}
		if p.State != wire.StateRunning || p.Orphan == nil || p.Orphan.SinceNS != since {
			t.Errorf("step %v: the patient one: %+v %+v", by, p, p.Orphan)
		}
		eventually(t, "the canary is seen, as the clock is now", func() bool {
			s, err := d.client.Status(t.Context())
			return err == nil && s.CanarySeen != nil && time.Since(*s.CanarySeen).Abs() < 30*time.Second && len(s.Conditions) == 0
		})
	}
	d.stop()
	step(t, 5*time.Hour)
	d.start(t.Context())
	defer d.stop()
	victim, _ := d.leave("sleep 333")
	d.event("the rule acts after a restart", func(e *wire.Event) bool {
		return e.Kill != nil && len(e.Kill.Processes) == 1 && int(e.Kill.Processes[0].PID) == victim
	})
	p, err := d.client.Process(t.Context(), int32(patient))
	if err != nil {
		t.Fatal(err)
	}
	if p.State != wire.StateRunning || p.Orphan == nil || p.Orphan.SinceNS != since {
		t.Errorf("after a restart: the patient one: %+v %+v", p, p.Orphan)
	}
	if e := d.find(func(e *wire.Event) bool { return e.Kill != nil && e.Kill.Rule != "soon" }); e != nil {
		t.Errorf("a kill: %+v", e.Kill)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if strings.Contains(d.log.String(), "the stream is silent") {
		t.Error("it took the step for the stream's silence")
	}
}

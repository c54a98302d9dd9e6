// SPDX-License-Identifier: Apache-2.0

//go:build vm

package live

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// wait is how long a rule of the test waits before it acts.
const wait = 4 * time.Second

const rules = `
budget: {warm_up: 0s, pause: 0s, kills_per_minute: 1000, respawn: 0s, stop_file: DIR/stop}
rules:
  - {name: soon, mode: enforce, match: {verdict: [leaked], cmdline: "^sleep 333$"}, orphaned_for: 4s, grace: 1s}
  - {name: deaf, mode: enforce, match: {verdict: [leaked], cmdline: "^sleep 555$"}, orphaned_for: 0s, grace: 4s}
  - {name: later, mode: enforce, match: {verdict: [leaked], cmdline: "^sleep 444$"}, orphaned_for: 1h, grace: 1s}
`

// step sets the wall clock.
func step(t *testing.T, by time.Duration) {
	t.Helper()
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		t.Fatalf("set the clock: %v", err)
	}
}

// TestSteps sets the clock by hours, forth and back, while rules wait, and while a kill waits
// for a process that ignores SIGTERM. They wait as long as they were told to, and nobody is ended sooner, later or at all for the step; ages
// are the same, and the daemon finds nothing wrong with itself.
func TestSteps(t *testing.T) {
	d := newDaemon(t, rules)
	d.start(t.Context())
	patient, since := d.leave("sleep 444")
	for _, by := range []time.Duration{3 * time.Hour, -30 * time.Hour} {
		victim, left := d.leave("sleep 333")
		deaf, _ := d.leave(`sh -c 'trap "" TERM; exec sleep 555'`)
		proctest.Eventually(t, "a kill waits for who ignores SIGTERM", func() bool { return d.said(fmt.Sprintf("pid=%d ", deaf), "ending a process tree") })
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
		ended := d.event("that kill is over", func(e *wire.Event) bool {
			return e.Kill != nil && len(e.Kill.Processes) == 1 && int(e.Kill.Processes[0].PID) == deaf
		})
		if grace := ended.Kill.Processes[0].WaitMS / 1000; grace < wait.Seconds()/2 || ended.Kill.Outcome != wire.KillDone {
			t.Errorf("step %v: after a grace of %v s: %+v", by, grace, ended.Kill)
		}
		p, err := d.client.Process(t.Context(), int32(patient))
		if err != nil {
			t.Fatal(err)
		}
		if p.State != wire.StateRunning || p.Orphan == nil || p.Orphan.SinceNS != since {
			t.Errorf("step %v: the patient one: %+v %+v", by, p, p.Orphan)
		}
		proctest.Eventually(t, "the canary is seen, as the clock is now", func() bool {
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
	if e := d.find(func(e *wire.Event) bool { return e.Kill != nil && e.Kill.Rule == "later" }); e != nil {
		t.Errorf("a kill: %+v", e.Kill)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if strings.Contains(d.log.String(), "the stream is silent") {
		t.Error("it took the step for the stream's silence")
	}
}

// said reports whether a line of the log has all of these in it.
func (d *daemon) said(parts ...string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for line := range strings.Lines(d.log.String()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			return true
		}
	}
	return false
}

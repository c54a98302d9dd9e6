// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// marked arms a rule for leaked processes with a mark, and for nobody else.
const marked = unhurried + `
rules:
  - {name: marked, mode: enforce, match: {verdict: [leaked], cmdline: "^` + mark + `$"}, orphaned_for: 0s, grace: 5s}
`

const mark = "sleep 333"

// innocents are marked as the rule wants it, or left behind as it wants it, and never
// both: whoever ends one of them is wrong.
func innocents(t testing.TB, d *daemon) []*process {
	t.Helper()
	attended := newPairOf(t, "with a living parent", mark)
	unmarked := newPair(t, "without a mark")
	unmarked.killMain()
	kept := startShell(t, []string{"ABOT_TRACE_KEEP=1"}, mark+" & echo child $! >&3; wait").await("child", 1)[0]
	detached := startShell(t, nil, "nohup sh -c 'echo child $$ >&3; exec "+mark+"' </dev/null >/dev/null 2>&1 & read line; exit 0")
	deliberate := detached.await("child", 1)[0]
	detached.leave()
	if o := d.orphan(deliberate.pid); o.Verdict != wire.VerdictDeliberate {
		t.Errorf("nohup: %+v", o)
	}
	return []*process{attended.child, unmarked.child, kept, deliberate}
}

// wantKilled wants the children of the pairs ended by the rule, and nobody else ended by
// any, be it said or done.
func (d *daemon) wantKilled(victims []*pair, spared []*process) {
	d.t.Helper()
	for _, v := range victims {
		v.child.mustDie()
		if k := d.kill(v.child.pid, nil); k.Rule != "marked" || k.Outcome != wire.KillDone || len(k.Processes) != 1 {
			d.t.Errorf("%s: kill: %+v", v.name, k)
		}
	}
	for _, p := range spared {
		p.mustLive()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		for i := 0; e.Kill != nil && i < len(e.Kill.Processes); i++ {
			pid := int(e.Kill.Processes[i].PID)
			if !slices.ContainsFunc(victims, func(v *pair) bool { return v.child.pid == pid }) {
				d.t.Errorf("a kill of %d, which is no victim: %+v", pid, e.Kill)
			}
		}
	}
}

// TestChaosStopped stops the daemon while a storm overruns the ring and parents die.
// What was lost is told to the record, what was not is as it would have been, and for
// nobody whose record was lost is it said that it was leaked.
func TestChaosStopped(t *testing.T) {
	const others = 200           // records of the test's own, at most
	execs := either(2100, 10000) // of each of two storms: more than the ring has room for
	d := newDaemon(t, marked)
	d.client.Patience = 2 * time.Minute // its silence is meant
	d.start()
	spared := innocents(t, d)
	victims := []*pair{newPairOf(t, "early victim", mark)}
	early, late := pairsOf(t, 3, "early"), pairsOf(t, 3, "late")
	late = append(late, newPairOf(t, "late and marked", mark))

	before := records(d.status())
	began := time.Now()
	d.signal(unix.SIGSTOP)
	proctest.Eventually(t, "it is stopped", func() bool { return strings.Contains(about(d.cmd.Process.Pid), ") T ") })
	killMains(append(victims, early...))
	one, other := startStorm(t, execs, bulky), startStorm(t, execs, bulky)
	one.wait()
	other.wait()
	killMains(late)
	<-time.After(time.Until(began.Add(either(0, 30*time.Second))))
	resumed := time.Now()
	d.signal(unix.SIGCONT)

	d.await("the loss is healed", func() bool {
		s := d.status()
		return s.Refused > 0 && d.lost() == s.Refused && d.find(func(e *wire.Event) bool {
			return e.Resync != nil && strings.HasSuffix(e.Resync.Reason, "records lost")
		}) != nil
	})
	for _, p := range early {
		wantLeak(t, p, d.reported(p))
		spared = append(spared, p.child)
	}
	for _, p := range late {
		o := d.reported(p)
		if o.SpawnedBy == nil || o.SpawnedBy.PID != p.parent() || o.Orphan.Leaker == nil || o.Orphan.Leaker.PID != p.parent() {
			t.Errorf("%s: spawned by %+v, left by %+v; want %d", p.name, o.SpawnedBy, o.Orphan.Leaker, p.parent())
		}
		if o.Orphan.Verdict != wire.VerdictUnknown {
			t.Errorf("%s: %s, though its parent's end was lost", p.name, o.Orphan.Verdict)
		}
		spared = append(spared, p.child)
	}
	after := newPairOf(t, "after", mark)
	after.killMain()
	victims = append(victims, after)
	d.wantKilled(victims, spared)
	d.wantTold(slices.Concat(victims, early, late), 0)

	d.await("the canary is seen again", func() bool {
		s := d.status()
		return s.CanarySeen != nil && s.CanarySeen.After(resumed)
	})
	if strings.Contains(d.log.String(), "the stream is silent") {
		t.Error("it took its own pause for the stream's silence")
	}
	s := d.status()
	made := uint64(2 * 3 * execs) // a fork, an exec and an exit of each
	if all := records(s) - before + s.Refused; all < made || all > made+others {
		t.Errorf("%d records read and %d lost, of %d and at most %d others", records(s)-before, s.Refused, made, others)
	}
	t.Logf("%d of %d records lost in %v", s.Refused, made, time.Since(began).Round(time.Millisecond))
}

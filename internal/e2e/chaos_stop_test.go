// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
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

// A changer is a pair whose child looks as the rule wants it, and executes another program when
// it is told to.
type changer struct {
	*pair
	fifo string
}

func newChanger(t testing.TB, d *daemon, name string) changer {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	c := changer{newPairOf(t, name, `bash -c 'exec -a "`+mark+`" sh <>"$1"' bash `+fifo), fifo}
	d.await(name+" is known by its first program", func() bool {
		p, err := d.client.Process(t.Context(), int32(c.child.pid))
		return err == nil && strings.Join(p.Cmdline, " ") == mark
	})
	return c
}

// execute has the child execute the command line, which is in the process list then.
func (c *changer) execute(line, title string) {
	c.t.Helper()
	if err := os.WriteFile(c.fifo, []byte("exec "+line+"\n"), 0); err != nil {
		c.t.Fatal(err)
	}
	proctest.Eventually(c.t, c.name+" executes", func() bool { return strings.Contains(about(c.child.pid), title) })
}

// wantChanged looks at one whose parent is dead, and whose exec nobody saw.
func (c *changer) wantChanged(d *daemon, title, verdict string) {
	c.t.Helper()
	var p wire.Process
	d.await(c.name+" is judged by what it is", func() bool {
		p = d.reported(c.pair)
		return p.Orphan.Verdict == verdict && !p.Orphan.Provisional
	})
	if p.Lineage != wire.LineageInferred || strings.Join(p.Cmdline, " ") != title {
		c.t.Errorf("%s: %q, lineage %s", c.name, p.Cmdline, p.Lineage)
	}
}

// TestChaosStopped stops the daemon while a storm overruns the ring and parents die.
// What was lost is told to the record, what was not is as it would have been, and for
// nobody whose record was lost is it said that it was leaked. Who executed another program
// meanwhile is judged by what it is, and not by what it was.
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
	kept, other := newChanger(t, d, "executes with KEEP"), newChanger(t, d, "executes something else")

	before := records(d.status())
	began := time.Now()
	d.signal(unix.SIGSTOP)
	proctest.Eventually(t, "it is stopped", func() bool { return strings.Contains(about(d.cmd.Process.Pid), ") T ") })
	killMains(append(victims, early...))
	storms := []*storm{startStorm(t, execs, bulky), startStorm(t, execs, bulky)}
	for _, s := range storms {
		s.wait()
	}
	killMains(late)
	kept.execute("env ABOT_TRACE_KEEP=1 sleep 334", "sleep 334")
	other.execute("sleep 335", "sleep 335")
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
	killMains([]*pair{kept.pair, other.pair})
	kept.wantChanged(d, "sleep 334", wire.VerdictDeliberate)
	other.wantChanged(d, "sleep 335", wire.VerdictUnknown)
	spared = append(spared, kept.child, other.child)

	after := newPairOf(t, "after", mark)
	after.killMain()
	victims = append(victims, after)
	d.wantKilled(victims, spared)
	d.wantTold(slices.Concat(victims, early, late, []*pair{kept.pair, other.pair}), 0)

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

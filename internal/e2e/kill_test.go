// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestLeakedTreeEnds leaves trees of four behind and wants each ended at once, and
// told as it was.
func TestLeakedTreeEnds(t *testing.T) {
	d := startDaemon(t, armed)
	for range 5 {
		f := startFamily(t, "parent", "tree")
		root, leaves := f.await("root", 1)[0], f.await("leaf", 3)
		f.killMain()
		f.empty()
		k := d.kill(root.pid, nil)
		if k.Outcome != wire.KillDone || k.Rule != "all" || k.Verdict != wire.VerdictLeaked || k.Signal != "SIGTERM" || len(k.Processes) != 4 {
			t.Errorf("kill: %+v", k)
		}
		for _, p := range append(leaves, root) {
			p.mustDie()
			if o := outcomeOf(k, p.pid); o == nil || o.Outcome != wire.OutcomeDied && o.Outcome != wire.OutcomeVanished || o.RSSBytes == nil {
				t.Errorf("outcome of %d: %+v", p.pid, o)
			}
		}
		if k.FreedBytes == 0 {
			t.Error("nothing freed")
		}
		o := d.orphan(root.pid)
		if o.Verdict != wire.VerdictLeaked || o.Leaker.Exit == nil || o.Leaker.Exit.Signal != "SIGKILL" {
			t.Errorf("orphan: %+v", o)
		}
	}
}

// TestDeafTreeEndsAtItsGrace wants a tree that ignores SIGTERM to live as long as its
// grace lasts, each time, and to be dead a tenth of a second later. How long a process
// took is the kill's own word, by the monotonic clock; a machine that stands still at the
// wrong moment gets another chance.
func TestDeafTreeEndsAtItsGrace(t *testing.T) {
	const (
		grace  = 600 * time.Millisecond
		late   = 100 * time.Millisecond
		trials = 10
	)
	d := startDaemon(t, strings.ReplaceAll(armed, "grace: 5s", "grace: 600ms"))
	var took time.Duration
	for range trials {
		if took = deafTree(t, d, grace); took < grace+late {
			return
		}
	}
	t.Errorf("dead %v after SIGTERM, with a grace of %v", took, grace)
}

// deafTree leaves a deaf tree behind and returns how long the last of it took to die.
func deafTree(t *testing.T, d *daemon, grace time.Duration) (last time.Duration) {
	t.Helper()
	f := startFamily(t, "parent", "deaftree")
	root, leaves := f.await("root", 1)[0], f.await("deaf", 3)
	began := time.Now()
	f.killMain()
	root.mustDie()
	if took := time.Since(began); took < grace {
		t.Errorf("dead after %v, with a grace of %v", took, grace)
	}
	f.empty()
	k := d.kill(root.pid, nil)
	if k.Outcome != wire.KillDone || k.Signal != "SIGKILL" {
		t.Errorf("kill: %+v", k)
	}
	for _, p := range append(leaves, root) {
		o := outcomeOf(k, p.pid)
		if o == nil || o.Outcome != wire.OutcomeDied || o.Signal != "SIGKILL" || o.WaitMS < float64(grace.Milliseconds()) {
			t.Errorf("outcome of %d: %+v", p.pid, o)
			continue
		}
		last = max(last, time.Duration(o.WaitMS*float64(time.Millisecond)))
	}
	return last
}

// TestForkingTreeEndsEmpty ends a tree that grows meanwhile.
func TestForkingTreeEndsEmpty(t *testing.T) {
	d := startDaemon(t, strings.ReplaceAll(armed, "grace: 5s", "grace: 200ms"))
	f := startFamily(t, "parent", "forking")
	root := f.await("root", 1)[0]
	f.killMain()
	f.empty()
	if k := d.kill(root.pid, nil); k.Outcome != wire.KillDone {
		t.Errorf("kill: %+v", k)
	}
}

// TestAgeIsWaitedFor runs a rule of two seconds for real.
func TestAgeIsWaitedFor(t *testing.T) {
	const age = 2 * time.Second
	d := startDaemon(t, strings.ReplaceAll(armed, "orphaned_for: 0s", "orphaned_for: 2s"))
	f := startFamily(t, "parent", "tree")
	root := f.await("root", 1)[0]
	f.await("leaf", 3)
	began := time.Now()
	f.killMain()
	f.empty()
	if took := time.Since(began); took < age {
		t.Errorf("ended after %v", took)
	}
	if k := d.kill(root.pid, nil); k.Outcome != wire.KillDone {
		t.Errorf("kill: %+v", k)
	}
}

// TestObserveEndsNobody wants observe to say what enforce would do, and do nothing;
// and a name in enforce to arm the rule.
func TestObserveEndsNobody(t *testing.T) {
	observing := strings.ReplaceAll(armed, "mode: enforce, ", "")
	d := startDaemon(t, observing)
	f := startFamily(t, "parent", "tree")
	root, leaves := f.await("root", 1)[0], f.await("leaf", 3)
	f.killMain()
	k := d.kill(root.pid, nil)
	if k.Outcome != wire.KillObserved || k.Mode != "observe" || len(k.Processes) != 4 {
		t.Errorf("kill: %+v", k)
	}
	for _, p := range append(leaves, root) {
		p.mustLive()
		if o := outcomeOf(k, p.pid); o == nil || o.Outcome != wire.OutcomeWouldKill || o.Signal != "" {
			t.Errorf("outcome of %d: %+v", p.pid, o)
		}
	}

	d.reload(observing + "enforce: [all]\n")
	g := startFamily(t, "parent", "tree")
	g.await("leaf", 3)
	g.killMain()
	g.empty()
}

// reload has the daemon take a configuration and waits until it has.
func (d *daemon) reload(config string) {
	d.t.Helper()
	before := strings.Count(d.log.String(), "configuration loaded")
	d.configure(config)
	d.signal(hangUp)
	d.await("the configuration is loaded", func() bool {
		return strings.Count(d.log.String(), "configuration loaded") > before
	})
}

// TestLeavesInHandler wants a tree ended whose root answers SIGTERM by cloning itself as a
// child of init: nothing of it may survive a kill that is told as done.
func TestLeavesInHandler(t *testing.T) {
	d := startDaemon(t, strings.ReplaceAll(armed, "grace: 5s", "grace: 300ms"))
	f := startCommand(t, nil, exec.Command("python3", "testdata/leaver.py"))
	orphan := f.await("orphan", 1)[0]
	f.killMain()
	f.empty()
	k := d.kill(orphan.pid, nil)
	if k.Outcome != wire.KillDone || len(k.Processes) != 2 {
		t.Errorf("kill: %+v", k)
	}
}

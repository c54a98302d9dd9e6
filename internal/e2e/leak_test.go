// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leakOf waits until a change of the leak that the process belongs to is told.
func (d *daemon) leakOf(p *process, change string) *wire.Leak {
	d.t.Helper()
	id := d.orphan(p.pid).Leak
	if id == "" {
		d.t.Fatalf("orphan %d belongs to no leak", p.pid)
	}
	var found *wire.Leak
	d.await("leak "+id+" "+change, func() bool {
		e := d.find(func(e *wire.Event) bool { return e.Leak != nil && e.Leak.ID == id && e.Leak.Change == change })
		if e != nil {
			found = e.Leak
		}
		return e != nil
	})
	return found
}

// leakEvents are the changes that were told of a leak, in order.
func (d *daemon) leakEvents(id string) (changes []string) {
	d.find(func(e *wire.Event) bool {
		if e.Leak != nil && e.Leak.ID == id {
			changes = append(changes, e.Leak.Change)
		}
		return false
	})
	return changes
}

// TestLeak has one death leave a tree of four: it is one leak, told once, shown with what it
// holds, known to a successor of the daemon, and over when the last of them is dead.
func TestLeak(t *testing.T) {
	d := newKept(t, resting)
	d.start()
	f := startFamily(t, "parent", "tree")
	root, leaves := f.await("root", 1)[0], f.await("leaf", 3)
	f.killMain()

	l := d.leakOf(root, wire.LeakOpened)
	if l.Verdict != wire.VerdictLeaked || l.Processes != (wire.LeakCount{Now: 4, Peak: 4, Total: 4}) || len(l.Members) != 4 ||
		l.Leaker.Comm != "sh" || l.Leaker.Exit == nil || l.Leaker.Exit.Signal != "SIGKILL" || l.Name == "" || len(l.Evidence) == 0 {
		t.Errorf("opened: %+v", l)
	}
	for _, leaf := range leaves {
		if id := d.orphan(leaf.pid).Leak; id != l.ID {
			t.Errorf("%d belongs to leak %q, want %s", leaf.pid, id, l.ID)
		}
	}
	d.await("a sample of it", func() bool {
		doc, err := d.client.Leaks(t.Context(), l.ID)
		return err == nil && doc.Leaks[0].RSSBytes != nil && *doc.Leaks[0].RSSBytes > 1<<20
	})
	out, _ := wantRun(t, 0, "leaks", "--socket", d.socket())
	wantText(t, out, l.ID, "leaked", "1 leak, 1 open: 4 processes hold")
	out, _ = wantRun(t, 0, "leaks", "--by", "program", "--json", "--socket", d.socket())
	var doc wire.Leaks
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Groups) != 1 || doc.Groups[0].Leaks != 1 || doc.Groups[0].Processes != 4 {
		t.Errorf("by program: %v, %s", err, out)
	}
	out, _ = wantRun(t, 0, "explain", "--socket", d.socket(), l.ID)
	wantText(t, out, "leak "+l.ID, "left by", "which died", "SIGKILL", "4 now, 4 at most, 4 in all", "remedy", "docs/prevention.md#")
	wantRun(t, 1, "leaks", "--socket", d.socket(), "L000000000000")

	d.endBy(unix.SIGTERM)
	d.start()
	root.end() // it would leave when its leaves are dead
	for _, p := range leaves {
		p.end()
	}
	l = d.leakOf(root, wire.LeakEnded)
	if l.EndedBy != "signal" || l.Processes != (wire.LeakCount{Now: 0, Peak: 4, Total: 4}) || l.PeakBytes == nil {
		t.Errorf("ended: %+v", l)
	}
	if changes := d.leakEvents(l.ID); slices.Index(changes, wire.LeakOpened) != -1 && changes[len(changes)-1] != wire.LeakEnded {
		t.Errorf("told: %v", changes)
	}
}

// TestLeakEndedByRule: what a rule ends is a leak ended by a kill, and opens no other.
func TestLeakEndedByRule(t *testing.T) {
	d := startDaemon(t, armed)
	f := startFamily(t, "parent", "tree")
	root := f.await("root", 1)[0]
	f.await("leaf", 3)
	f.killMain()
	root.mustDie()
	kill := d.kill(root.pid, outcomeIs(wire.KillDone))
	l := d.leakOf(root, wire.LeakEnded)
	if l.EndedBy != "kill" || len(l.KillIDs) == 0 || kill.Leak != l.ID || kill.Fingerprint != l.Fingerprint || !slices.Contains(l.Rules, kill.Rule) {
		t.Errorf("ended: %+v by %+v", l, kill)
	}
	d.find(func(e *wire.Event) bool {
		if e.Leak != nil && e.Leak.ID != l.ID {
			t.Errorf("another leak: %+v", e.Leak)
		}
		return false
	})
}

// TestThousandOrphans: a thousand orphans of one leaker are one leak, told of once, and end with
// one of the budget's kills, each death verified. They are judged in batches: where the machine is
// slow one may be ended after another, but that is all the same leak's.
func TestThousandOrphans(t *testing.T) {
	const n = 1000
	dir, _ := hooked(t, "")
	said := filepath.Join(dir, "said")
	d := startDaemon(t, strings.NewReplacer("kills_per_minute: 10000", "kills_per_minute: 1", "pause: 0s", "pause: 1h").Replace(armed)+
		"notify: {exec: [{command: [/bin/sh, -c, 'cat >>"+said+"'], min_severity: debug}]}\n"+
		"monitor: {process_memory: 1TiB}\n") // a leak that passes it is told of once more
	f := startFamily(t, "many", strconv.Itoa(n))
	f.await("parent", 1)
	f.killMain()
	var ended *wire.Leak
	d.await("the end of the leak", func() bool {
		e := d.find(func(e *wire.Event) bool { return e.Leak != nil && e.Leak.Change == wire.LeakEnded })
		if e != nil {
			ended = e.Leak
		}
		return e != nil
	})
	if ended.EndedBy != "kill" || ended.Processes != (wire.LeakCount{Now: 0, Peak: n, Total: n}) || len(ended.KillIDs) == 0 {
		t.Errorf("ended: %+v", ended)
	}
	var kills []*wire.Kill
	d.await("each of its kills", func() bool {
		kills = nil
		d.find(func(e *wire.Event) bool {
			if e.Kill != nil {
				kills = append(kills, e.Kill)
			}
			return false
		})
		return len(kills) == len(ended.KillIDs)
	})
	processes := 0
	for _, k := range kills {
		if k.Outcome != wire.KillDone || k.Leak != ended.ID || k.Name == "" || k.User == "" || !slices.Contains(ended.KillIDs, k.KillID) {
			t.Errorf("%s: %s of %d processes: %s", k.KillID, k.Outcome, len(k.Processes), k.Reason)
		}
		for _, p := range k.Processes {
			if p.Outcome != wire.OutcomeDied && p.Outcome != wire.OutcomeZombie {
				t.Errorf("%+v", p)
			}
		}
		processes += len(k.Processes)
	}
	if processes != n || len(kills) > n/100 {
		t.Errorf("%d kills of %d processes", len(kills), processes)
	}
	counts := make(map[string]int)
	d.find(func(e *wire.Event) bool {
		if e.Leak != nil && (e.Leak.Change == wire.LeakOpened || e.Leak.Change == wire.LeakEnded) {
			counts[e.Leak.Change]++
		}
		if e.Alert != nil && strings.Contains(e.Alert.Name, "budget") {
			counts[e.Alert.Name]++
		}
		return false
	})
	if want := map[string]int{wire.LeakOpened: 1, wire.LeakEnded: 1}; !maps.Equal(counts, want) {
		t.Errorf("told %v, want %v", counts, want)
	}
	want := map[string]int{"leak " + wire.LeakOpened: 1, "leak " + wire.LeakEnded: 1, "kill ": len(kills)}
	sent := map[string]int{}
	d.await("notices of the leak, its kills and its end", func() bool {
		sent = notices(t, said, ended.ID)
		for what, n := range want {
			if sent[what] < n {
				return false
			}
		}
		return true
	})
	if !maps.Equal(sent, want) {
		t.Errorf("notices %v, want %v", sent, want)
	}
}

// notices counts by type what a hook was given about a leak or its processes; a last one that
// is half written does not count yet.
func notices(t *testing.T, path, leak string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		var n notify.Notice
		if !strings.HasSuffix(line, "\n") {
			continue
		}
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			t.Fatalf("%v: %.200s", err, line)
		}
		what := n.Event.Type + " "
		switch {
		case n.Event.Leak != nil && n.Event.Leak.ID == leak:
			what += n.Event.Leak.Change
		case n.Event.Kill == nil && n.Event.Process == nil:
			continue // of an alert, or a loss
		}
		counts[what]++
	}
	return counts
}

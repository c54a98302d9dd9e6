// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestChaosKeptCorrupt spoils at once all that a daemon has left: the state, and a pin,
// which leads to another object now. The next one sets both aside, says so and begins
// anew; it tells nobody to be leaked whose past it does not know, and ends nobody.
func TestChaosKeptCorrupt(t *testing.T) {
	d := newKept(t, marked)
	d.start()
	reported := newPairOf(t, "reported", "sleep 300")
	reported.killMain()
	wantLeak(t, reported, d.reported(reported))
	across, within := newPairOf(t, "across", mark), newPairOf(t, "within", mark)
	d.endBy(unix.SIGTERM)
	within.killMain()

	path := filepath.Join(d.state(), "state")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	before := d.pinned()
	var ring, other string
	for name := range before {
		if strings.HasSuffix(name, "-events") {
			ring = name
		} else if strings.HasSuffix(name, "-on_exit") {
			other = name
		}
	}
	if err := os.Rename(filepath.Join(d.pins(), other), filepath.Join(d.pins(), ring)); err != nil {
		t.Fatalf("%v, of %v", err, before)
	}

	d.start()
	d.await("both are told", func() bool {
		log := d.log.String()
		return strings.Contains(log, "state: corrupt") && strings.Contains(log, "discarded what an earlier process had attached")
	})
	aside, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	after := d.pinned()
	for name := range after {
		if before[name] {
			t.Errorf("pin %s is left", name)
		}
	}
	if ring == "" || other == "" || len(after) != len(before) {
		t.Errorf("%d pins, there were %d", len(after), len(before))
	}
	d.saved(0)

	across.killMain()
	later, unmarked := newPairOf(t, "later", mark), newPair(t, "unmarked")
	killMains([]*pair{later, unmarked})
	d.wantLeaks([]*pair{unmarked}, 0)
	d.wantKilled([]*pair{later}, []*process{reported.child, within.child, across.child, unmarked.child})
	// Nobody saw that this one was left behind.
	if e := d.find(func(e *wire.Event) bool {
		return e.Type == wire.TypeOrphan && int(e.Process.PID) == within.child.pid && e.Process.Orphan.Verdict != wire.VerdictUnknown
	}); e != nil {
		t.Errorf("%s: %+v", within.name, e.Process.Orphan)
	}
	d.endBy(unix.SIGKILL)
	d.start()
	d.wantLeaks([]*pair{unmarked}, 1)
}

// pinned is the set of the pins' names.
func (d *daemon) pinned() map[string]bool {
	d.t.Helper()
	list, err := os.ReadDir(d.pins())
	if err != nil {
		d.t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, e := range list {
		names[e.Name()] = true
	}
	return names
}

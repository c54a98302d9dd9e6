// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestLeaseOutlivesDaemon takes a lease of a daemon that is killed at once, long before it
// saves its state again, and the holder with it: the next daemon ends what the holder left.
func TestLeaseOutlivesDaemon(t *testing.T) {
	d := newKept(t, resting)
	d.start()
	d.await("a first save", func() bool {
		_, err := os.Stat(filepath.Join(d.state(), "state"))
		return err == nil
	})
	f := startShell(t, nil, "$ABOT_TRACE lease --socket "+d.socket()+" --grace 300ms 2>&1 >&3; echo held $$ >&3; sh $F leaf & wait")
	f.await("held", 1)
	leaf := f.await("leaf", 1)[0]
	d.endBy(unix.SIGKILL)
	f.killMain()
	d.start()
	k := d.kill(leaf.pid, nil)
	if k.Rule != "lease" || k.Outcome != wire.KillDone {
		t.Errorf("kill: %+v", k)
	}
	leaf.mustDie()
}

// TestLeaseSaysThatItIsNotSaved takes leases of daemons that cannot write them down.
func TestLeaseSaysThatItIsNotSaved(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T) *daemon{
		"nothing is saved": func(t *testing.T) *daemon { return startDaemon(t, resting) },
		"the disk is full": func(t *testing.T) *daemon {
			d := newKept(t, resting)
			if err := os.Mkdir(d.state(), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("none", d.state(), "tmpfs", 0, "mode=0700,size=4k,nr_inodes=4"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(d.state(), unix.MNT_DETACH) })
			d.start()
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := prepare(t)
			out := filepath.Join(t.TempDir(), "said")
			f := startShell(t, nil, "$ABOT_TRACE lease --socket "+d.socket()+" 2>"+out+" >/dev/null; echo held $$ >&3; read line")
			f.await("held", 1)
			b, err := os.ReadFile(out)
			if err != nil || !strings.Contains(string(b), "does not outlive the daemon") {
				t.Errorf("it said %q, %v", b, err)
			}
			f.leave()
		})
	}
}

// TestLeaseWithoutPins kills a daemon and takes its pins away, so that the next one sees nothing
// of what happens meanwhile.
func TestLeaseWithoutPins(t *testing.T) {
	for _, test := range []struct {
		name  string
		known bool // the descendant is in the state; then the holder dies while nobody looks
	}{
		{"the holder dies meanwhile", true},
		{"the state has not the descendant", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newKept(t, resting)
			d.start()
			d.await("a first save", func() bool {
				_, err := os.Stat(filepath.Join(d.state(), "state"))
				return err == nil
			})
			f := startShell(t, nil, "$ABOT_TRACE lease --socket "+d.socket()+" --grace 300ms 2>&1 >&3; echo held $$ >&3; sh $F leaf & wait")
			f.await("held", 1)
			leaf := f.await("leaf", 1)[0]
			if test.known {
				d.endBy(unix.SIGTERM)
				d.start()
			}
			d.endBy(unix.SIGKILL)
			if err := os.RemoveAll(d.pins()); err != nil {
				t.Fatal(err)
			}
			if test.known {
				f.killMain()
			}
			d.start()
			if test.known {
				if k := d.kill(leaf.pid, nil); k.Rule != "lease" || k.Outcome != wire.KillDone {
					t.Errorf("kill: %+v", k)
				}
				leaf.mustDie()
				return
			}
			f.killMain()
			d.await("the end of the holder is known", func() bool {
				p, err := d.client.Process(t.Context(), int32(leaf.pid))
				return err == nil && p.Orphan != nil
			})
			out, _ := wantRun(t, 0, "explain", "--socket", d.socket(), fmt.Sprint(leaf.pid))
			if !strings.Contains(out, "lineage inferred") || !strings.Contains(out, "is dead, but who spawned it was not observed") {
				t.Errorf("explain: %s", out)
			}
			leaf.mustLive()
		})
	}
}

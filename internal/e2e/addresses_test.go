// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestChosenAddresses leaves a process behind that says, by prctl(2), that its arguments
// and its environment are terabytes of nothing. It is judged like any other, is ended, and
// holds nobody up.
func TestChosenAddresses(t *testing.T) {
	script, err := filepath.Abs("testdata/addresses.py")
	if err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, armed)
	before := soakLook(t, d)
	f := startCommand(t, nil, exec.Command("sh", "-c", "/usr/bin/python3 -S "+script+" 3 & echo main $$ >&3; wait"))
	child := f.await("child", 1)[0]
	f.await("main", 1)
	f.killMain()
	o := d.orphan(child.pid)
	if o.Leaker == nil || o.Verdict == wire.VerdictDeliberate {
		t.Errorf("orphan: %+v", o)
	}
	if _, err := d.client.Tree(t.Context()); err != nil {
		t.Error(err)
	}
	child.mustDie()
	d.kill(child.pid, outcomeIs(wire.KillDone))
	if after := soakLook(t, d); after.rss > before.rss+(64<<20) {
		t.Errorf("it has taken %.0f bytes of memory", after.rss-before.rss)
	}
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestTimeNamespace runs the daemon where the boot clock is a day and more ahead: an orphan
// of some seconds has the age that it has, and its files in procfs are found.
func TestTimeNamespace(t *testing.T) {
	d := newDaemon(t, unhurried+`
rules:
  - {name: old, mode: enforce, match: {verdict: [leaked]}, orphaned_for: 24h, grace: 1s}
  - {name: young, mode: enforce, match: {verdict: [leaked], cmdline: short-lived}, orphaned_for: 300ms, grace: 1s}
`)
	d.before = []string{"unshare", "-T", "--boottime", "100000"}
	d.start()
	leak := func(line string) *process {
		f := startShell(t, nil, "sh -c '(echo leaf $$ >&3); "+line+"' & wait")
		leaf := f.await("leaf", 1)[0]
		f.killMain()
		return leaf
	}
	stays := leak("sleep 300; :")
	d.orphanWith(t, stays.pid, wire.VerdictLeaked)
	o := d.orphan(stays.pid)
	if age := time.Since(*o.Since); age < 0 || age > time.Minute {
		t.Errorf("an orphan for %v", age)
	}
	gone := leak("sleep 300; : short-lived")
	gone.mustDie()
	stays.mustLive()
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestChaosManyChildren kills the parent of thousands of living children. Each is told as
// its orphan, once, with the same leaker, and the daemon answers meanwhile.
func TestChaosManyChildren(t *testing.T) {
	children := either(2000, 20000)
	d := startDaemon(t, ruleless+"notify: {per_user: 100}\n")
	const script = `import os
os.write(3, b"main %%d\n" %% os.getpid())
for i in range(%d):
    if os.fork() == 0:
        os.close(3)
        os.read(0, 1)
        os._exit(0)
os.read(0, 1)`
	f := startCommand(t, nil, exec.Command("/usr/bin/python3", "-S", "-c", fmt.Sprintf(script, children)))
	parent := f.await("main", 1)[0]
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(8 * patience); d.status().Living <= children; <-tick.C { // forks take longest
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d children are there", d.status().Living, children)
		}
	}
	began := time.Now()
	f.killMain()
	slowest := time.Duration(0)
	all := func() bool {
		asked := time.Now()
		d.status()
		slowest = max(slowest, time.Since(asked))
		return d.count(wire.TypeOrphan) >= children
	}
	for deadline := began.Add(4 * patience); !all(); {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d orphans are told", d.count(wire.TypeOrphan), children)
		}
	}
	t.Logf("%d orphans in %v; the slowest answer took %v", children, time.Since(began).Round(time.Millisecond), slowest.Round(time.Millisecond))
	list, err := d.client.Orphans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	listed := 0 // there may be others, of tests before
	for i := range list {
		if l := list[i].Orphan.Leaker; l != nil && int(l.PID) == parent.pid {
			listed++
		}
	}
	told := 0
	d.find(func(e *wire.Event) bool {
		if e.Type == wire.TypeOrphan && e.Process.Orphan.Leaker != nil && int(e.Process.Orphan.Leaker.PID) == parent.pid {
			told++
		}
		return false
	})
	if listed != children || told != children {
		t.Errorf("%d orphans listed, %d told, want %d", listed, told, children)
	}
	d.wantComplete()
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestSender wants a fatal signal's sender named by the number that this pid namespace
// knows it by, also where the orphan's leaker names it.
func TestSender(t *testing.T) {
	d := startDaemon(t, unhurried)
	f := startFamily(t, "parent", "leaf")
	leaf := f.await("leaf", 1)[0]
	f.killMain()
	self := int32(os.Getpid())
	o := d.orphan(leaf.pid)
	if by := o.Leaker.Exit.KilledBy; by == nil || by.PID != self || by.StartNS == 0 {
		t.Errorf("killed by %+v, want %d", by, self)
	}
	var e *wire.Event
	d.await("the signal", func() bool {
		e = d.find(func(e *wire.Event) bool { return e.Signal != nil && int(e.Process.PID) == f.cmd.Process.Pid })
		return e != nil
	})
	if e.Signal.Signal != "SIGKILL" || e.Signal.Sender == nil || e.Signal.Sender.PID != self {
		t.Errorf("signal: %+v from %+v", e.Signal, e.Signal.Sender)
	}
}

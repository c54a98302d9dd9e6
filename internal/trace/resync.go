// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// resync compares the tree with the kernel's own list: at the start, after a loss,
// and when the kernel showed a child that the tree had missed. It ends with a resync
// event, and with whatever the comparison brought to light.
func (t *Tracer) resync() {
	why := t.resyncWhy
	t.resyncWhy, t.resyncAt = "", time.Now()
	began := boottime.Now()
	tasks, err := t.source.Tasks()
	if err != nil {
		t.opt.Log.Error("resync", "reason", why, "err", err)
		t.needResync(why)
		return
	}
	tasks, _ = t.proc.AddMissingParents(tasks)
	s := t.tree.Begin(tasks, began)
	// What the ring holds by now explains most differences. Records that come
	// meanwhile may wait.
	t.drain()
	found, vanished, changes := s.End()
	// The slice belongs to the tree, and publishing may call it.
	for _, c := range append(changes[:0:0], changes...) {
		t.change(&c)
	}
	t.stats.note(t)
	if !t.synced {
		t.synced = true
		t.leases.Forget()
		close(t.ready)
	}
	t.leaks.Resynced()
	t.evidence.ReadAll()
	t.recording.SurveyAll()
	t.publishNews()
	t.publish(&wire.Event{Type: wire.TypeResync,
		Resync: &wire.Resync{Reason: why, Found: found, Vanished: vanished}}, boottime.Now())
}

// maxDrain bounds one drain, in batches: a storm fills the ring as fast as it is read.
const maxDrain = 256

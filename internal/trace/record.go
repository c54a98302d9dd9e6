// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// beginRecording has the recorder told from now on, from the tree as it is. A tree that was
// restored is so by now.
func (t *Tracer) beginRecording() {
	r := t.opt.Recorder
	if r == nil {
		return
	}
	t.tree.SetRecorder(r, r.Hide)
	t.checkpoint()
	t.names.Keep(r.Group)
	t.stream.KeepNotable(r.Told)
}

// checkpoint begins a new segment of the record. Between two records.
func (t *Tracer) checkpoint() {
	err := t.opt.Recorder.Checkpoint(t.tree, past.Start{EventIDs: t.stream.IDPrefix(), EventSeq: t.stream.Seq(), Names: t.names.Known()})
	if err != nil {
		t.opt.Log.Error("the history has no checkpoint: it cannot be asked from here on", "err", err)
	}
}

// keepRecord does what is due for the recorder, and returns when it wants to be called again
// at the latest, CLOCK_BOOTTIME ns; 0 is any time.
func (t *Tracer) keepRecord() uint64 {
	r := t.opt.Recorder
	if r == nil {
		return 0
	}
	now := boottime.Now()
	if n := r.TakeLost(now); n > 0 {
		t.publish(&wire.Event{Type: wire.TypeLost, Lost: &wire.Lost{Records: n, SinceNS: t.lossTold, Where: wire.LostFromHistory}}, now)
		t.lossTold = now
	}
	if r.NeedsCheckpoint() {
		t.checkpoint()
	}
	return r.Tick(now)
}

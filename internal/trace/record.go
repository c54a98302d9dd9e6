// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
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
	t.surveyGroups()
	if r.NeedsCheckpoint() {
		t.checkpoint()
	}
	next := r.Tick(now)
	if len(t.toSurvey) > 0 {
		next = boottime.Earlier(next, now+uint64(waitBusy))
	}
	return next
}

// surveyed is how many processes are asked at a look where they stand.
const surveyed = 16

// surveyGroups finds out where some stand of whom that is not known, while they live: later
// nobody could tell any more. Others stand where those do that they were copied from.
func (t *Tracer) surveyGroups() {
	n := min(len(t.toSurvey), surveyed)
	for _, id := range t.toSurvey[:n] {
		if p, ok := t.tree.Get(id); ok && !p.Dead {
			t.names.Group(p.ID, p.Cgroup, true)
		}
	}
	t.toSurvey = t.toSurvey[n:]
}

// surveyAll has everybody asked, and survey one process.
func (t *Tracer) surveyAll() {
	if t.opt.Recorder == nil {
		return
	}
	t.toSurvey = t.toSurvey[:0]
	for p := range t.tree.All(false) {
		if !p.Dead && !p.Kthread {
			t.toSurvey = append(t.toSurvey, p.ID)
		}
	}
}

func (t *Tracer) survey(id event.ID) {
	if t.opt.Recorder != nil && len(t.toSurvey) < maxSurvey {
		t.toSurvey = append(t.toSurvey, id)
	}
}

// maxSurvey bounds who waits to be asked.
const maxSurvey = 1 << 16

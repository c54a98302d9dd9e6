// SPDX-License-Identifier: Apache-2.0

package past

import (
	"log/slog"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Recording has a recorder told of a living tree: from where on, where processes stand, and
// what is due. It is for the goroutine that owns the tree. A nil one records nothing.
type Recording struct {
	rec   *Recorder
	tree  *tracker.Tree
	names *describe.Names
	start func() Start
	log   *slog.Logger

	toSurvey []event.ID // see survey
	lossTold uint64     // when losses were told, CLOCK_BOOTTIME ns
}

// Begin has the recorder told from now on, from the tree as it is; start is asked at each
// checkpoint. The recording of no recorder is nil.
func Begin(rec *Recorder, tree *tracker.Tree, names *describe.Names, start func() Start, log *slog.Logger) *Recording {
	if rec == nil {
		return nil
	}
	r := &Recording{rec: rec, tree: tree, names: names, start: start, log: log}
	tree.SetRecorder(rec, rec.Hide)
	r.Checkpoint()
	names.Keep(rec.Group)
	return r
}

// Checkpoint begins a new segment of the record. Between two records.
func (r *Recording) Checkpoint() {
	if err := r.rec.Checkpoint(r.tree, r.start()); err != nil {
		r.log.Error("the history has no checkpoint: it cannot be asked from here on", "err", err)
	}
}

// surveyPause is the time until the next look while processes wait to be asked where they
// stand.
const surveyPause = 2_000_000 // ns

// Tick does what is due, and returns when it wants to be called again at the latest,
// CLOCK_BOOTTIME ns; 0 is any time. lost, unless nil, is to be told. Between two records.
func (r *Recording) Tick() (lost *wire.Lost, next uint64) {
	if r == nil {
		return nil, 0
	}
	now := boottime.Now()
	if n := r.rec.TakeLost(now); n > 0 {
		lost = &wire.Lost{Records: n, SinceNS: r.lossTold, Where: wire.LostFromHistory}
		r.lossTold = now
	}
	r.survey()
	if r.rec.NeedsCheckpoint() {
		r.Checkpoint()
	}
	next = r.rec.Tick(now)
	if len(r.toSurvey) > 0 {
		next = boottime.Earlier(next, now+surveyPause)
	}
	return lost, next
}

const (
	surveyed  = 16      // processes that are asked at a look where they stand
	maxSurvey = 1 << 16 // that wait to be asked
)

// survey finds out where some stand of whom that is not known, while they live: later nobody
// could tell any more. Others stand where those do that they were copied from.
func (r *Recording) survey() {
	n := min(len(r.toSurvey), surveyed)
	for _, id := range r.toSurvey[:n] {
		if p, ok := r.tree.Get(id); ok && !p.Dead {
			r.names.Group(p.ID, p.Cgroup, true)
		}
	}
	r.toSurvey = r.toSurvey[n:]
}

// SurveyAll has everybody asked where he stands, and Survey one process.
func (r *Recording) SurveyAll() {
	if r == nil {
		return
	}
	r.toSurvey = r.toSurvey[:0]
	for p := range r.tree.All(false) {
		if !p.Dead && !p.Kthread {
			r.toSurvey = append(r.toSurvey, p.ID)
		}
	}
}

// Survey has one process asked where it stands.
func (r *Recording) Survey(id event.ID) {
	if r != nil && len(r.toSurvey) < maxSurvey {
		r.toSurvey = append(r.toSurvey, id)
	}
}

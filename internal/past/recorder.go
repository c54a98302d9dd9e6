// SPDX-License-Identifier: Apache-2.0

// Package past writes what the tree is told to the history, and makes the tree of any moment
// of it again: the past is asked by the code of the present.
//
//	tracker, stream, names -> Recorder -> history.Store
//	history.View -> checkpoint, entries -> tracker.Tree, describe.Names -> whoever asks
package past

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// The types of notes. Those of the tracker's inputs are their kinds, below 64. The numbers
// are in files: they are never used for anything else.
const (
	noteTold    history.NoteType = 64 + iota // a notable event: its notable sequence, or nothing
	noteGroup                                // a control group that was found out: JSON
	noteRepeats                              // how many of the next records are before it already
	noteSample                               // what processes and the host use
)

// A Start is what a checkpoint holds beside the tree.
type Start struct {
	// EventIDs is what the ids of events begin with, and EventSeq the number of the last.
	EventIDs string          `json:"event_ids"`
	EventSeq uint64          `json:"event_seq"`
	Names    *describe.Known `json:"names"`
	// Sample is the last one, as a note has it that no other was before.
	Sample []byte `json:"sample,omitempty"`
}

// A Recorder tells a history what happens. Its methods belong to the tracer's loop, where
// nothing else is said, and never wait for the disk.
type Recorder struct {
	store   *history.Store
	now     func() uint64
	offset  int64  // of the wall clock when the segment began
	checked uint64 // when that was looked at
	stepped bool
	repeats uint64
	cmdline [16]struct{ text, hidden string }
	data    []byte
	line    []byte
	lostAt  uint64 // when losses were told
	sampled Sample // the last
}

// NewRecorder returns a recorder into store.
func NewRecorder(store *history.Store) *Recorder {
	return &Recorder{store: store, now: boottime.Now}
}

// Repeat says that the first n records that the recorder will be told are in the store
// already: a daemon that was killed had written more than it had saved. Before the first
// checkpoint.
func (r *Recorder) Repeat(n uint64) { r.repeats = n }

// Applying implements tracker.Recorder.
func (r *Recorder) Applying(e *event.Event) {
	if e.Kind == event.KindExec {
		if hidden := r.Hide(e.Exec.Cmdline); hidden != e.Exec.Cmdline {
			c := *e
			c.Exec.Cmdline = hidden
			e = &c
		}
	}
	r.store.Append(e)
}

// Input implements tracker.Recorder.
func (r *Recorder) Input(kind tracker.InputKind, id event.ID, data []byte) {
	r.note(history.NoteType(kind), id, data)
}

func (r *Recorder) note(kind history.NoteType, id event.ID, data []byte) {
	r.store.Note(&history.Note{Type: kind, Time: r.now(), ID: id, Data: data})
}

// Hide takes likely secrets from a NUL-separated command line.
func (r *Recorder) Hide(cmdline string) string {
	last := &r.cmdline[len(cmdline)%len(r.cmdline)]
	if last.text != cmdline {
		last.text, last.hidden = cmdline, hide(cmdline)
	}
	return last.hidden
}

func hide(cmdline string) string {
	args := event.SplitCmdline(cmdline)
	hidden := safetext.Redact(args)
	if len(args) == 0 || &args[0] == &hidden[0] {
		return cmdline
	}
	s := strings.Join(hidden, "\x00")
	if strings.HasSuffix(cmdline, "\x00") {
		s += "\x00"
	}
	return s
}

// Told numbers a notable event and keeps it as it is told. Of fatal and caught signals, forks,
// execs and exits the records are kept.
func (r *Recorder) Told(e *wire.Event) {
	e.NotableSeq = r.store.NotableSeq()
	r.line = wire.AppendEvent(r.line[:0], e)
	r.store.Line(e.TimeNS, r.line)
	r.data = binary.AppendUvarint(r.data[:0], e.NotableSeq)
	r.note(noteTold, event.ID{}, r.data)
}

// Group keeps what was found out of a control group.
func (r *Recorder) Group(g *describe.KnownGroup) {
	if b, err := json.Marshal(g); err == nil {
		r.note(noteGroup, g.ID, b)
	}
}

// stepCheck is how often the wall clock is compared, and step what it must have gone aside to
// begin a new segment: times are told by the clock as it stood when the segment began.
const (
	stepCheck = uint64(time.Second)
	step      = time.Second
)

// NeedsCheckpoint reports whether a new segment is to begin.
func (r *Recorder) NeedsCheckpoint() bool {
	if now := r.now(); now-r.checked >= stepCheck {
		r.checked = now
		aside := time.Duration(boottime.Offset() - r.offset)
		r.stepped = aside > step || aside < -step
	}
	return r.stepped || r.store.NeedsCheckpoint()
}

// Checkpoint begins a new segment with the tree as it is.
func (r *Recorder) Checkpoint(tree *tracker.Tree, start Start) error {
	var err error
	if r.sampled.Time != 0 {
		start.Sample, err = r.sampled.encode(nil, nil)
	}
	head, failed := json.Marshal(start)
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	body := binary.AppendUvarint(make([]byte, 0, len(head)+200*(tree.Living()+tree.Remembered())), uint64(len(head)))
	body, err = tree.Checkpoint(append(body, head...))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	r.offset, r.stepped = boottime.Offset(), false
	r.store.Checkpoint(body)
	if r.repeats > 0 {
		r.note(noteRepeats, event.ID{}, binary.AppendUvarint(nil, r.repeats))
		r.repeats = 0
	}
	return nil
}

// Tick hands on what has waited long enough. It returns when it wants to be called again at
// the latest, in CLOCK_BOOTTIME ns; 0 is any time.
func (r *Recorder) Tick(now uint64) uint64 { return r.store.Tick(now) }

// How often losses are told at most, ns. While nothing can be written at all, what is told is
// an entry that is lost itself.
const (
	lostPause    = uint64(time.Second)
	failingPause = uint64(10 * time.Minute)
)

// TakeLost returns how many entries were lost since they were told last: at once where all
// was well, then from time to time, and when all is well again.
func (r *Recorder) TakeLost(now uint64) (entries uint64) {
	since := now - r.lostAt
	if since < lostPause || since < failingPause && r.lostAt != 0 && r.store.Failing() {
		return 0
	}
	if entries = r.store.TakeDropped(); entries > 0 {
		r.lostAt = now
	}
	return entries
}

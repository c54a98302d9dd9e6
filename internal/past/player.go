// SPDX-License-Identifier: Apache-2.0

package past

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// A Player makes the tree again from what a Recorder has kept. It implements history.Player.
type Player struct {
	// OnStart, unless it is nil, is called when a segment begins.
	OnStart func()
	// OnChange, unless it is nil, is called with what an entry changed. The changes are valid
	// until it returns; false ends the playing. asked says that the entry is asked for, and
	// does not stand before it already.
	OnChange func(changes []tracker.Change, seq uint64, asked bool) bool
	// OnTold is called where a notable event was told, with its notable sequence.
	OnTold func(notable, seq uint64, asked bool) bool
	// OnSample is called with what a sample tells that the one before did not.
	OnSample func(news *Sample, asked bool) bool

	// Of the segment that is played: its head, the tree as far as it was played, the names
	// that were known, and what the events of it are numbered from.
	Head  *history.SegmentHead
	Tree  *tracker.Tree
	Names *describe.Names
	Begun Start
	// Sample is the last one, Time of the last entry, CLOCK_BOOTTIME ns.
	Sample Sample
	Time   uint64
	// Skipped counts inputs that made no sense.
	Skipped uint64

	repeats uint64
	seq     uint64          // of the last event that was told
	process tracker.Process // of the last change that lifecycle has handed over
}

var errCheckpoint = errors.New("checkpoint makes no sense")

// Start implements history.Player.
func (p *Player) Start(head *history.SegmentHead, checkpoint []byte) error {
	n, size := binary.Uvarint(checkpoint)
	if size <= 0 || n > uint64(len(checkpoint)-size) {
		return errCheckpoint
	}
	var start Start
	if err := json.Unmarshal(checkpoint[size:size+int(n)], &start); err != nil {
		return fmt.Errorf("%w: %w", errCheckpoint, err)
	}
	if start.Names == nil {
		return errCheckpoint
	}
	tree, err := tracker.FromCheckpoint(checkpoint[size+int(n):], 0)
	if err != nil {
		return err
	}
	p.Head, p.Begun, p.Tree, p.repeats, p.Time = head, start, tree, 0, head.OpenedNS
	p.seq = start.EventSeq
	p.Names, p.Sample = describe.NewPastNames(tree, start.Names), Sample{}
	if len(start.Sample) > 0 {
		if _, ok := p.Sample.decode(start.Sample); !ok {
			p.Skipped++
		}
	}
	if p.OnStart != nil {
		p.OnStart()
	}
	return nil
}

// Play implements history.Player.
func (p *Player) Play(e *history.Entry, asked bool) bool {
	p.Time = max(p.Time, e.Time())
	if e.Event == nil {
		return p.note(e, asked)
	}
	changes := p.Tree.Apply(e.Event)
	if e.Event.Kind == event.KindMove {
		p.Names.Moved(e.Event.Subject, e.Event.Move.Cgroup)
	}
	if p.repeats > 0 {
		p.repeats--
		asked = false
	}
	return p.changed(changes, e.Seq, asked)
}

func (p *Player) changed(changes []tracker.Change, seq uint64, asked bool) bool {
	for i := range changes {
		if changes[i].Kind == tracker.Lost {
			p.Names.ForgetAt(changes[i].Time)
		}
	}
	return len(changes) == 0 || p.OnChange == nil || p.OnChange(changes, seq, asked)
}

// lifecycle calls fn with each of the changes that was told as an event of that type. Its
// sequence is seq then, and whom it is about process.
func (p *Player) lifecycle(changes []tracker.Change, fn func(c *tracker.Change, kind string) bool) bool {
	for i := range changes {
		c := &changes[i]
		kind := describe.LifecycleType(c.Kind)
		if kind == "" || !p.Tree.Describe(c, &p.process) {
			continue
		}
		p.seq++
		if !fn(c, kind) {
			return false
		}
	}
	return true
}

func (p *Player) note(e *history.Entry, asked bool) bool {
	n := e.Note
	switch n.Type {
	case noteTold:
		seq, size := binary.Uvarint(n.Data)
		if size <= 0 {
			return true
		}
		if p.OnTold != nil && !p.OnTold(seq, e.Seq, asked) {
			return false
		}
		p.seq++
	case noteGroup:
		var g describe.KnownGroup
		if json.Unmarshal(n.Data, &g) == nil {
			p.Names.Learn(&g)
		}
	case noteSample:
		news, ok := p.Sample.decode(n.Data)
		if !ok {
			p.Skipped++
			return true
		}
		return p.OnSample == nil || p.OnSample(news, asked)
	case noteRepeats:
		p.repeats, _ = binary.Uvarint(n.Data)
	default:
		if n.Type >= noteTold {
			return true // a later version's
		}
		changes, err := p.Tree.Redo(tracker.InputKind(n.Type), n.ID, n.Data)
		if err != nil {
			p.Skipped++
			return true
		}
		return p.changed(changes, e.Seq, asked)
	}
	return true
}

// SPDX-License-Identifier: Apache-2.0

package history

import (
	"errors"
	"fmt"
	"io/fs"
)

// A Place is how far a player has come that plays on as more is written.
type Place struct {
	// Next is the sequence of the first entry that it has not had.
	Next uint64

	segment uint64 // the first sequence of the one that it stands in
	begun   bool   // that was begun
}

// PlayOn plays what the view has from the place on, which moves with each entry that the
// player takes, until the player refuses one: that comes again. Where the place is in the
// middle of a segment that was not begun, what is before it is played, too, and not asked for.
func (v *View) PlayOn(at *Place, p Player) error {
	for i := range v.segments {
		seg := &v.segments[i]
		last := i == len(v.segments)-1
		switch {
		case at.begun && seg.head.FirstSeq < at.segment:
			continue
		case !at.begun && !last && seg.end() <= at.Next:
			continue
		}
		more, err := v.playOnSegment(seg, at, p)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (v *View) playOnSegment(seg *segment, at *Place, p Player) (more bool, err error) {
	f, err := v.reopen(seg)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // retention was quicker
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", seg.name, err)
	}
	defer f.Close()
	on := &playerOn{Player: p, at: at}
	r := Range{FromSeq: at.Next}
	if !at.begun || seg.head.FirstSeq != at.segment {
		if !v.start(f, seg, p) {
			return true, nil
		}
		at.begun, at.segment = true, seg.head.FirstSeq
	} else {
		on.skip = at.Next // what it has had
		rest := *seg
		rest.refs = seg.refs[:1:1]
		for i := 1; i < len(seg.refs); i++ {
			if ref := seg.refs[i]; ref.seq+uint64(ref.count) > at.Next {
				rest.refs = append(rest.refs, ref)
			}
		}
		seg = &rest
	}
	v.playBlocks(f, seg, &r, on)
	return !on.ended, nil
}

// playerOn moves a place with what its player takes.
type playerOn struct {
	Player
	at    *Place
	skip  uint64
	ended bool
}

func (p *playerOn) Play(e *Entry, asked bool) bool {
	if e.Seq < p.skip {
		return true
	}
	if !p.Player.Play(e, asked) {
		p.ended = true
		return false
	}
	p.at.Next = max(p.at.Next, e.Seq+1)
	return true
}

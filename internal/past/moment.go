// SPDX-License-Identifier: Apache-2.0

package past

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/inspect"
)

// A Source is what the past is read from: a store, or an archive.
type Source interface {
	View(history.Class) *history.View
}

// A Moment is the tree as it was once, for those who ask about it. It belongs to one
// goroutine.
type Moment struct {
	*inspect.Inspector
	// Time is what is told.
	Time time.Time
	// Notes say what was not seen of it, and when memory was sampled: one sentence each.
	Notes []string

	player *Player
}

// unseenAfter is how long nothing must have been recorded before that is told: a canary is
// every ten seconds.
const unseenAfter = 30 * time.Second

// timeForm is how times are told in notes.
const timeForm = "2006-01-02 15:04:05 MST"

// At makes the tree as it was at t.
func At(src Source, t time.Time) (*Moment, error) {
	v := src.View(history.Stream)
	player := &Player{}
	if err := v.PlayAt(t, player); err != nil {
		if from := v.Begin(); errors.Is(err, history.ErrNoCheckpoint) && !from.IsZero() {
			return nil, fmt.Errorf("%s: %w: it begins at %s", t.Local().Format(timeForm), err, from.Local().Format(timeForm))
		}
		return nil, err
	}
	m := &Moment{Time: t, player: player}
	m.Inspector = inspect.NewPast(inspect.Past{Tree: player.Tree, Names: player.Names, Host: player.Head.Host, Time: t,
		Offset: player.offset(), Usage: player.Sample.Use})
	m.note(v)
	return m, nil
}

// offset is the wall clock at boot, ns, as it stood when the segment began.
func (p *Player) offset() int64 { return p.Head.Opened.UnixNano() - int64(p.Head.OpenedNS) }

// note says how far the moment can be believed.
func (m *Moment) note(v *history.View) {
	seen := m.player.Head.Wall(m.player.Time)
	if m.Time.Sub(seen) > unseenAfter {
		m.Notes = append(m.Notes, fmt.Sprintf("nothing was seen between %s and then: this is how it was before", seen.Local().Format(timeForm)))
	}
	if n := v.Missed + m.player.Skipped; n > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%d records of the history could not be read: some processes may be missing", n))
	}
	if m.player.Sample.Time == 0 {
		m.Notes = append(m.Notes, "no sample of memory is kept from before")
		return
	}
	m.Notes = append(m.Notes, fmt.Sprintf("memory is that of %s, of the largest processes and of what was leaked",
		m.player.Head.Wall(m.player.Sample.Time).Local().Format(timeForm)))
}

// AtProcess is At for a question about one process, or with 0 about none. Where nothing is known
// of it at t any more, the moment is that of the last record of it before.
func AtProcess(ctx context.Context, src Source, t time.Time, pid int32) (*Moment, error) {
	m, err := At(src, t)
	if err != nil || pid == 0 {
		return m, err
	}
	if _, err := m.Process(ctx, pid); err == nil || !errors.Is(err, inspect.ErrNoProcess) {
		return m, err
	}
	last, found, err := src.View(history.Stream).LastAbout(pid, t)
	if err != nil || !found {
		return m, err
	}
	if m, err = At(src, last); err != nil {
		return nil, err
	}
	m.Notes = append([]string{fmt.Sprintf("pid %d was gone by then: it is told as of %s", pid, last.Local().Format(timeForm))}, m.Notes...)
	return m, nil
}

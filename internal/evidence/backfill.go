// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/slowread"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// fillBatch is how many command lines are read between two looks at the ring.
const fillBatch = 64

// A backfill reads programs, arguments and marks of processes whose exec was not seen:
// those older than the tracer, and all where argument tracing is refused. Such a read can
// block on the process, so it is never done on the loop.
type backfill struct {
	next   []event.ID // to be read before all others
	queued map[event.ID]struct{}
	wanted bool // all that is not known is to be read
	busy   bool
	tried  map[event.ID]struct{}
	filled chan struct{} // closed when the first look is done
}

// maxNext bounds those who are read before others. Beyond it everyone is looked at.
const maxNext = 4096

func newBackfill() backfill {
	return backfill{tried: make(map[event.ID]struct{}), queued: make(map[event.ID]struct{}), filled: make(chan struct{})}
}

// Filled is closed when the processes older than the tracer have got their command
// lines. From any goroutine.
func (g *Gatherer) Filled() <-chan struct{} { return g.fill.filled }

// ReadAll has every process read whose program or marks are not known.
func (g *Gatherer) ReadAll() { g.fill.want() }

// want asks for another look.
func (f *backfill) want() {
	f.wanted = true
	clear(f.tried)
}

// readSoon has the process read if its program or marks are not known.
func (f *backfill) readSoon(tree *tracker.Tree, id event.ID) {
	_, queued := f.queued[id]
	switch {
	case queued || !tree.NeedsReading(id):
	case len(f.next) >= maxNext:
		f.want()
	default:
		f.next = append(f.next, id)
		f.queued[id] = struct{}{}
	}
}

// ReadSoon has program and marks of the process read, where they are not known, and OnRead
// called.
func (g *Gatherer) ReadSoon(id event.ID) { g.fill.readSoon(g.tree, id) }

// ReadNext begins to read the next processes that wait for it, unless others are being
// read.
func (g *Gatherer) ReadNext() {
	f := &g.fill
	if f.busy {
		return
	}
	ids := f.batch(g.tree)
	if len(ids) == 0 {
		return
	}
	f.busy = true
	g.readPrograms(ids, fillBatch*readTimeout, func() { f.busy = false })
}

// readTimeout is what one process may take: it can hold its own environment for ever.
const readTimeout = 100 * time.Millisecond

// ReadNow has programs and marks of the processes read, and then calls fn on the loop,
// whatever could be read: within half a second.
func (g *Gatherer) ReadNow(ids []event.ID, fn func()) { g.readPrograms(ids, asyncTimeout, fn) }

// readPrograms reads, apart from the loop, and calls fn when what was read is in the tree.
func (g *Gatherer) readPrograms(ids []event.ID, within time.Duration, fn func()) {
	found := make([]reading, len(ids))
	for i, id := range ids {
		p, _ := g.tree.Get(id)
		found[i] = reading{id: id, uid: p.UID, program: p.Program}
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		for i := range found {
			g.readProgram(ctx, &found[i])
		}
		g.post(func() {
			g.takeReadings(found)
			fn()
		})
	}()
}

// batch returns who is to be read next; nobody when all is done.
func (f *backfill) batch(tree *tracker.Tree) []event.ID {
	if n := min(len(f.next), fillBatch); n > 0 {
		ids := f.next[:n:n]
		f.next = f.next[n:]
		for _, id := range ids {
			delete(f.queued, id)
		}
		return ids
	}
	if !f.wanted {
		return nil
	}
	ids := tree.Unread(fillBatch, func(id event.ID) bool {
		_, tried := f.tried[id]
		return !tried
	})
	for _, id := range ids {
		f.tried[id] = struct{}{}
	}
	if len(ids) == 0 {
		f.wanted = false
		clear(f.tried)
		select {
		case <-f.filled:
		default:
			close(f.filled)
		}
	}
	return ids
}

// A reading is what procfs told of a process's program and marks.
type reading struct {
	id        event.ID
	uid       uint32 // whose it was at its last exec
	program   uint32 // that it ran before it was read
	exe, line string
	truncated bool
	words     bool // exe and line could be read
	marks     *procfs.Marks
}

// readProgram fills in what can be read before ctx ends, or readTimeout.
func (g *Gatherer) readProgram(ctx context.Context, r *reading) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	asked := *r
	read, err := slowread.Do(ctx, &g.reads, g.userNow(asked.id, asked.uid)(), func() (reading, error) {
		asked.exe, asked.line, asked.truncated, asked.words = readCmdline(g.proc, asked.id)
		if m, err := g.readMarks(asked.id); err == nil {
			asked.marks = &m
		}
		return asked, nil
	})
	if err == nil {
		*r = read
	}
}

// takeReadings puts into the tree what was read of those that have not executed since.
func (g *Gatherer) takeReadings(found []reading) {
	var read []event.ID
	for i := range found {
		r := &found[i]
		if p, ok := g.tree.Get(r.id); !ok || p.Dead || p.Program != r.program {
			continue
		}
		if r.words {
			g.tree.SetCmdline(r.id, r.exe, r.line, r.truncated)
		}
		if r.marks != nil {
			g.tree.SetMarks(r.id, r.marks.Keep, r.marks.Leash)
		}
		if r.words || r.marks != nil {
			read = append(read, r.id)
		}
	}
	for _, id := range read {
		g.happened(id, "what was read of its program and its environment")
	}
	if len(read) > 0 && g.onRead != nil {
		g.onRead(read)
	}
}

// MissedExec has a process read whose exec was lost. Nobody can tell by then why it was
// left.
func (g *Gatherer) MissedExec(id event.ID) {
	g.fill.readSoon(g.tree, id)
	p, ok := g.tree.Get(id)
	if !ok || p.Orphan == nil || p.Orphan.Verdict == "" {
		return
	}
	before := *p.Orphan
	v := verdict.Verdict{Word: verdict.Unknown, Evidence: []string{"the record of its last exec was lost: what it runs was not seen"}}
	g.tree.SetVerdict(id, v.Word, v.Provisional, v.Evidence)
	if c := g.cases[id]; c != nil && c.told && (before.Verdict != v.Word || before.Provisional != v.Provisional) {
		g.news = append(g.news, g.newsOf(c, &p, v, false, before.Verdict, "an exec whose record was lost"))
	}
}

// readCmdline reads the program and arguments of a process.
func readCmdline(proc procfs.FS, id event.ID) (exe, line string, truncated, ok bool) {
	p, err := proc.OpenID(id)
	if err != nil {
		return "", "", false, false
	}
	defer p.Close()
	exe, _ = p.Exe()
	args, truncated, err := p.Cmdline()
	if err != nil || exe == "" && len(args) == 0 {
		return "", "", false, false
	}
	if len(args) > 0 {
		line = strings.Join(args, "\x00") + "\x00"
	}
	return exe, line, truncated, true
}

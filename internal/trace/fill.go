// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"strings"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// fillBatch is how many command lines are read between two looks at the ring.
const fillBatch = 64

// A cmdlineFiller reads programs, arguments and marks of processes whose exec was not seen:
// those older than the tracer, and all where argument tracing is refused. Such a read can
// block on the process, so it is never done on the loop.
type cmdlineFiller struct {
	next   []event.ID // to be read before all others
	wanted bool       // all that is not known is to be read
	busy   bool
	tried  map[event.ID]struct{}
	filled chan struct{} // closed when the first look is done
}

// maxNext bounds those who are read before others. Beyond it everyone is looked at.
const maxNext = 4096

func (f *cmdlineFiller) init() {
	f.tried = make(map[event.ID]struct{})
	f.filled = make(chan struct{})
}

// Filled is closed when the processes older than the tracer have got their command
// lines.
func (t *Tracer) Filled() <-chan struct{} { return t.fill.filled }

// want asks for another look.
func (f *cmdlineFiller) want() {
	f.wanted = true
	clear(f.tried)
}

// readSoon has the process read if its program or marks are not known.
func (f *cmdlineFiller) readSoon(tree *tracker.Tree, id event.ID) {
	switch {
	case !tree.NeedsReading(id):
	case len(f.next) >= maxNext:
		f.want()
	default:
		f.next = append(f.next, id)
	}
}

// ReadSoon has program and marks of the process read, where they are not known, and OnRead
// called. On the loop.
func (t *Tracer) ReadSoon(id event.ID) { t.fill.readSoon(t.tree, id) }

func (f *cmdlineFiller) tick(t *Tracer) {
	if f.busy {
		return
	}
	ids := f.batch(t.tree)
	if len(ids) == 0 {
		return
	}
	programs := make([]uint32, len(ids))
	for i, id := range ids {
		p, _ := t.tree.Get(id)
		programs[i] = p.Program
	}
	f.busy = true
	go func() {
		found := make([]reading, len(ids))
		for i, id := range ids {
			found[i] = t.readProgram(id)
			found[i].program = programs[i]
		}
		t.post(func() {
			f.busy = false
			t.takeReadings(found)
		})
	}()
}

// batch returns who is to be read next; nobody when all is done.
func (f *cmdlineFiller) batch(tree *tracker.Tree) []event.ID {
	if n := min(len(f.next), fillBatch); n > 0 {
		ids := f.next[:n:n]
		f.next = f.next[n:]
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
	program   uint32 // that it ran before it was read
	exe, line string
	truncated bool
	words     bool // exe and line could be read
	marks     *procfs.Marks
}

func (t *Tracer) readProgram(id event.ID) (r reading) {
	r.id = id
	r.exe, r.line, r.truncated, r.words = readCmdline(t.proc, id)
	if m, err := t.readMarks(id); err == nil {
		r.marks = &m
	}
	return r
}

// takeReadings puts into the tree what was read of those that have not executed since.
func (t *Tracer) takeReadings(found []reading) {
	var read []event.ID
	for i := range found {
		r := &found[i]
		if p, ok := t.tree.Get(r.id); !ok || p.Dead || p.Program != r.program {
			continue
		}
		if r.words {
			t.tree.SetCmdline(r.id, r.exe, r.line, r.truncated)
		}
		if r.marks != nil {
			t.tree.SetMarks(r.id, r.marks.Keep, r.marks.Leash)
		}
		if r.words || r.marks != nil {
			read = append(read, r.id)
		}
	}
	if len(read) > 0 && t.onRead != nil {
		t.onRead(read)
	}
}

// missedExec has a process read whose exec was lost. Nobody can tell by then why it was
// left.
func (t *Tracer) missedExec(id event.ID) {
	t.fill.readSoon(t.tree, id)
	if p, ok := t.tree.Get(id); ok && p.Orphan != nil && p.Orphan.Verdict != "" {
		t.tree.SetVerdict(id, verdict.Unknown, []string{"the record of its last exec was lost: what it runs was not seen"})
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

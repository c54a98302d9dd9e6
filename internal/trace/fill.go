// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"strings"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// fillBatch is how many command lines are read between two looks at the ring.
const fillBatch = 64

// A cmdlineFiller reads programs, arguments and marks of processes whose exec was not seen:
// those older than the tracer, and all where argument tracing is refused. Such a read can
// block on the process, so it is never done on the loop.
type cmdlineFiller struct {
	wanted bool
	busy   bool
	tried  map[event.ID]struct{}
	filled chan struct{} // closed when the first look is done
}

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

func (f *cmdlineFiller) tick(t *Tracer) {
	if !f.wanted || f.busy {
		return
	}
	ids := t.tree.MissingCmdline(fillBatch, func(id event.ID) bool {
		_, tried := f.tried[id]
		return !tried
	})
	if len(ids) == 0 {
		f.wanted = false
		clear(f.tried)
		select {
		case <-f.filled:
		default:
			close(f.filled)
		}
		return
	}
	for _, id := range ids {
		f.tried[id] = struct{}{}
	}
	f.busy = true
	go func() {
		type found struct {
			id        event.ID
			exe, line string
			truncated bool
			words     bool
			marks     *procfs.Marks
		}
		var all []found
		for _, id := range ids {
			f := found{id: id}
			f.exe, f.line, f.truncated, f.words = readCmdline(t.proc, id)
			if m, err := t.readMarks(id); err == nil {
				f.marks = &m
			}
			all = append(all, f)
		}
		t.post(func() {
			for _, f := range all {
				if f.words {
					t.tree.SetCmdline(f.id, f.exe, f.line, f.truncated)
				}
				if f.marks != nil {
					t.tree.SetMarks(f.id, f.marks.Keep, f.marks.Leash)
				}
			}
			f.busy = false
		})
	}()
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

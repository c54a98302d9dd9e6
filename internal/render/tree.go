// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TreeOptions choose what Tree draws.
type TreeOptions struct {
	Style
	// Kernel draws by kernel parent instead of lineage.
	Kernel bool
	// Orphans draws only orphans, what made them, and what they made.
	Orphans bool
	// Root draws only the process with this pid, its ancestors and its descendants; 0
	// draws all.
	Root int32
	// Threads draws each kernel thread; else they are counted.
	Threads bool
}

// A forest is the processes of a document, tied together.
type forest struct {
	doc      *wire.Tree
	opt      TreeOptions
	children map[int][]int
	roots    []int
	shown    []bool // nil is all
	kthreads int
	out      *bufio.Writer
}

type identity struct {
	pid   int32
	start uint64
}

// Tree draws the document.
func Tree(w io.Writer, doc *wire.Tree, opt TreeOptions) error {
	f := &forest{doc: doc, opt: opt, out: bufio.NewWriterSize(w, 64<<10)}
	f.link()
	f.choose()
	header := fmt.Sprintf("%7s %-9s %7s %9s  %s", "PID", "USER", "AGE", "MEMORY", "COMMAND")
	fmt.Fprintln(f.out, opt.paint(bold, header))
	for _, r := range f.roots {
		f.draw(r, "", "")
	}
	if f.kthreads > 0 {
		fmt.Fprintln(f.out, opt.paint(dim, fmt.Sprintf("%7s %-9s %7s %9s  %d kernel threads (shown with --kernel-threads)", "", "", "", "", f.kthreads)))
	}
	if !doc.Complete {
		fmt.Fprintln(f.out, opt.paint(dim, "Some processes are older than the tracer: who spawned them is a guess from their kernel parent."))
	}
	return f.out.Flush()
}

// Select returns the processes that Tree would draw with these options.
func Select(doc *wire.Tree, root int32, orphans, kernel bool) []wire.Process {
	f := &forest{doc: doc, opt: TreeOptions{Root: root, Orphans: orphans, Kernel: kernel}}
	f.link()
	f.choose()
	selected := make([]wire.Process, 0, len(doc.Processes))
	for i := range doc.Processes {
		if f.shown == nil || f.shown[i] {
			selected = append(selected, doc.Processes[i])
		}
	}
	return selected
}

// link ties each process to its parent in the drawing: its spawner, or its kernel
// parent where that was asked for or is all that is known.
func (f *forest) link() {
	all := f.doc.Processes
	f.children = make(map[int][]int, len(all))
	byID := make(map[identity]int, len(all))
	byPID := make(map[int32]int, len(all))
	for i := range all {
		byID[identity{all[i].PID, all[i].StartNS}] = i
		if all[i].State == wire.StateRunning {
			byPID[all[i].PID] = i
		}
	}
	for i := range all {
		p := &all[i]
		if f.opt.Kernel && p.State != wire.StateRunning {
			continue
		}
		parent, ok := -1, false
		if !f.opt.Kernel && p.SpawnedBy != nil {
			parent, ok = byID[identity{p.SpawnedBy.PID, p.SpawnedBy.StartNS}]
		} else if f.opt.Kernel || p.State == wire.StateRunning && p.Orphan == nil {
			parent, ok = byPID[p.PPID]
		}
		if !ok || parent == i {
			f.roots = append(f.roots, i)
			continue
		}
		f.children[parent] = append(f.children[parent], i)
	}
}

// choose marks what the options ask for.
func (f *forest) choose() {
	if !f.opt.Orphans && f.opt.Root == 0 {
		return
	}
	f.shown = make([]bool, len(f.doc.Processes))
	for _, r := range f.roots {
		f.mark(r, false)
	}
}

// mark reports whether anything at or below i is shown.
func (f *forest) mark(i int, below bool) bool {
	p := &f.doc.Processes[i]
	wanted := below
	if f.opt.Root != 0 && p.PID == f.opt.Root || f.opt.Orphans && p.Orphan != nil && p.State == wire.StateRunning {
		wanted = true
	}
	any := wanted
	for _, c := range f.children[i] {
		any = f.mark(c, wanted) || any
	}
	f.shown[i] = any
	return any
}

// draw prints i, with the lead of its own line and the one of its children's.
func (f *forest) draw(i int, lead, childLead string) {
	p := &f.doc.Processes[i]
	if f.shown != nil && !f.shown[i] {
		return
	}
	if p.Kthread && !f.opt.Threads && p.PID != f.opt.Root {
		f.kthreads++
		for _, c := range f.children[i] {
			f.draw(c, childLead, childLead)
		}
		return
	}
	f.line(p, lead)
	var visible []int
	for _, c := range f.children[i] {
		if f.shown == nil || f.shown[c] {
			visible = append(visible, c)
		}
	}
	for n, c := range visible {
		if n == len(visible)-1 {
			f.draw(c, childLead+"└─ ", childLead+"   ")
		} else {
			f.draw(c, childLead+"├─ ", childLead+"│  ")
		}
	}
}

func (f *forest) line(p *wire.Process, lead string) {
	now := f.doc.Time
	user := cut(safetext.Field(p.User), 9)
	left := fmt.Sprintf("%7d %-9s %7s %9s  ", p.PID, user, Since(now, p.StartedAt), Memory(p.RSSBytes, p.SwapBytes))
	note, paint := f.note(p, now)
	text := Command(p)
	if f.opt.Width > 0 {
		text, note = fit(text, note, f.opt.Width-utf8.RuneCountInString(left)-utf8.RuneCountInString(lead))
	}
	if p.State == wire.StateDead {
		text = f.opt.paint(dim, text)
	}
	f.out.WriteString(left)
	f.out.WriteString(f.opt.paint(dim, lead))
	f.out.WriteString(text)
	if note != "" {
		f.out.WriteString("  ")
		f.out.WriteString(f.opt.paint(paint, note))
	}
	f.out.WriteByte('\n')
}

// The least columns for a command, and for a note, however narrow the terminal is: a
// line that says neither who nor what helps nobody.
const (
	minText = 16
	minNote = 20
)

// fit shortens a command and its note to room columns. The note is what people look
// for: the command gives way first.
func fit(text, note string, room int) (string, string) {
	if note == "" {
		return cut(text, max(room, minText)), ""
	}
	text = cut(text, max(room-utf8.RuneCountInString(note)-2, minText))
	return text, cut(note, max(room-utf8.RuneCountInString(text)-2, minNote))
}

// note is what is remarkable about a process.
func (f *forest) note(p *wire.Process, now time.Time) (string, color) {
	if p.State == wire.StateDead {
		s := "† " + Exit(p.Exit)
		if p.ExitedAt != nil {
			s += ", " + Since(now, p.ExitedAt) + " ago"
		}
		return s, dim
	}
	o := p.Orphan
	if o == nil {
		return "", plain
	}
	return orphanNote(o, now), verdictColor(o.Verdict)
}

func orphanNote(o *wire.Orphan, now time.Time) string {
	var b strings.Builder
	if o.Direct {
		b.WriteString("orphan")
	} else {
		b.WriteString("stranded")
	}
	b.WriteString(" (" + o.Verdict + ")")
	if o.Since != nil && now.After(*o.Since) {
		b.WriteString(" for " + Since(now, o.Since))
	}
	if o.Leaker != nil {
		fmt.Fprintf(&b, ", left by %d %s", o.Leaker.PID, safetext.Field(o.Leaker.Comm))
		if o.Leaker.Exit != nil {
			b.WriteString(" (" + Exit(o.Leaker.Exit) + ")")
		}
	}
	if a := o.Adopter; a != nil && o.Direct {
		fmt.Fprintf(&b, ", adopted by %d %s", a.PID, safetext.Field(a.Comm))
	}
	return b.String()
}

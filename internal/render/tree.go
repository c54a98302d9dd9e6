// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// ErrNoProcess says that what is to be drawn is not there.
var ErrNoProcess = errors.New("no such process")

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
	// Wanted, unless nil, draws only those of which it is true, with what spawned them. An
	// orphan that is drawn has all that it made below it.
	Wanted func(*wire.Process) bool
	// ByUnit draws the processes of each unit, or container, below its name.
	ByUnit bool
	// Fold draws equal leaves of one process as one line: "12 × nginx".
	Fold bool
	// Rows is how many lines of processes are drawn at most, those that are worth most; 0 is
	// without limit.
	Rows int
}

// A Drawing is a tree that is being drawn: what is to be in it is added, and then it is
// drawn as a whole.
type Drawing struct {
	forest
	now  time.Time
	rows []row
	text strings.Builder // of all rows
	buf  []byte          // for one row
	left map[identity]*leftBehind

	lead     []byte // of what is drawn at present
	depth    int    // of it
	kthreads int    // left out so far
	cutOff   int    // processes left out for want of rows
}

// A row is what is known of a process's line before its place in the drawing is: the
// columns to the left but for the memory, the command, a note.
type row struct {
	at                  int // of the drawing's text
	left, command, note int // bytes
	short               int // bytes of the command without the heads of paths; 0 where that is not needed
	user                string
	equal               int // how many it stands for, where it is not one
	ink, noteInk        color
	memory              uint64 // bytes
	sized               bool   // the memory is known
}

// NewDrawing begins a drawing of about so many processes as they are at the instant now.
func NewDrawing(now time.Time, processes int, opt TreeOptions) *Drawing {
	d := &Drawing{forest: forest{opt: opt, nodes: make([]node, 0, processes)}, now: now, rows: make([]row, 0, processes)}
	d.text.Grow(100 * processes)
	return d
}

// Add adds a process to what is drawn. Siblings are drawn in the order in which they are
// added. p is not kept.
func (d *Drawing) Add(p *wire.Process) {
	d.forest.add(p)
	r := row{at: d.text.Len(), user: p.User}
	if p.State == wire.StateDead {
		r.ink = dim
	}
	b := d.appendColumns(d.buf[:0], p)
	r.left = len(b)
	b = appendCommand(b, p)
	r.command = len(b) - r.left
	note, ink := noteOf(p, d.now)
	b = append(b, note...)
	r.note, r.noteInk = len(note), ink
	if d.opt.Width > 0 && len(p.Cmdline) > 0 && len(b) > d.opt.Width-memoryColumn {
		began := len(b)
		b = append(b, shortCommand(p.Cmdline)...)
		if p.Truncated {
			b = append(b, " ..."...)
		}
		r.short = len(b) - began
	}
	d.text.Write(b)
	d.buf = b
	d.rows = append(d.rows, r)
	d.addLeft(p)
	if p.RSSBytes != nil {
		d.SetMemory(len(d.rows)-1, *p.RSSBytes, orNone(p.SwapBytes))
	}
}

// SetMemory says what the process that was added as the i-th holds, in bytes: for those
// who learn it later than the rest.
func (d *Drawing) SetMemory(i int, rss, swap uint64) {
	d.rows[i].memory, d.rows[i].sized = rss+swap, true
}

// appendRight appends a cell of ASCII to the right of a column.
func appendRight(b, cell []byte, width int) []byte {
	return append(appendBlanks(b, width-len(cell)), cell...)
}

func appendBlanks(b []byte, n int) []byte {
	for ; n > 0; n-- {
		b = append(b, ' ')
	}
	return b
}

// leftBehind is what one dead process has left of a leak. It stands before how it died: that
// gives way first.
type leftBehind struct {
	leak    string
	orphans int
	leaked  bool
}

// addLeft has the leaker of an orphan, where it is drawn, tell of the leak.
func (d *Drawing) addLeft(p *wire.Process) {
	o := p.Orphan
	if o == nil || o.Leak == "" || o.Leaker == nil || p.State != wire.StateRunning {
		return
	}
	if d.left == nil {
		d.left = make(map[identity]*leftBehind)
	}
	leaker := identity{o.Leaker.PID, o.Leaker.StartNS}
	left := d.left[leaker]
	if left == nil {
		left = &leftBehind{leak: o.Leak}
		d.left[leaker] = left
	}
	left.orphans++
	left.leaked = left.leaked || o.Verdict == wire.VerdictLeaked
}

func (l *leftBehind) note() string {
	verdict := wire.VerdictUnknown
	if l.leaked {
		verdict = wire.VerdictLeaked
	}
	return fmt.Sprintf("%s (%s, %s): ", safetext.Field(l.leak), verdict, quantity.Count(l.orphans, "orphan"))
}

// Append appends the drawing of all that was added. complete says that every lineage in
// it was observed. It is an [ErrNoProcess] when the options name a process that is not
// there. It is called once.
func (d *Drawing) Append(b []byte, complete bool) ([]byte, error) {
	if d.opt.Root != 0 && !d.has(d.opt.Root) {
		return nil, fmt.Errorf("%w: %d", ErrNoProcess, d.opt.Root)
	}
	d.link()
	d.choose()
	text := d.text.String()
	if d.opt.Fold {
		d.fold(text)
	}
	if d.opt.Rows > 0 {
		d.limit(d.opt.Rows)
	}
	b = slices.Grow(b, len(text)+24*len(d.rows)+256)
	b = append(b, d.opt.paint(bold, d.besideColumns("PID", "USER", "AGE", "MEMORY", "COMMAND"))+"\n"...)
	if d.opt.ByUnit {
		b = d.drawUnits(b, text)
	} else {
		for _, r := range d.roots {
			b = d.draw(b, text, r, "", "")
		}
	}
	if d.cutOff > 0 {
		b = append(b, d.opt.paint(dim, d.besideColumns("", "", "", "", fmt.Sprintf("%d more", d.cutOff)))+"\n"...)
	}
	if d.kthreads > 0 {
		count := fmt.Sprintf("%d kernel threads (--kernel-threads)", d.kthreads)
		b = append(b, d.opt.paint(dim, d.besideColumns("", "", "", "", count))+"\n"...)
	}
	if !complete {
		for _, line := range wrap("Some processes are older than the tracer: who spawned them is a guess from their kernel parent.", max(d.opt.Width, minFlex)+unlimited(d.opt.Style)) {
			b = append(b, d.opt.paint(dim, line)+"\n"...)
		}
	}
	return b, nil
}

// maxIndent is how many levels are drawn by their indentation, which would else grow the
// text with the square of the depth. Further down the level is told as a number.
const maxIndent = 64

// draw appends i and what is below it. branch ends the lead of i's own line, and below
// that of its children's.
func (d *Drawing) draw(b []byte, text string, i int32, branch, below string) []byte {
	n := &d.nodes[i]
	if !n.shown {
		return b
	}
	was := len(d.lead)
	if d.depth++; d.depth > maxIndent {
		branch, below = fmt.Sprintf("…%d %s", d.depth-1, branch), ""
	}
	hidden := n.kthread && !d.opt.Threads && n.id.pid != d.opt.Root
	if hidden {
		d.kthreads++
	} else {
		d.lead = append(d.lead, branch...)
		b = d.line(b, text, i)
	}
	d.lead = append(d.lead[:was], below...)
	for c := d.visible(n.first); c != nobody; {
		next := d.visible(d.nodes[c].next)
		switch {
		case hidden:
			b = d.draw(b, text, c, "", "")
		case next == nobody:
			b = d.draw(b, text, c, "└─ ", "   ")
		default:
			b = d.draw(b, text, c, "├─ ", "│  ")
		}
		c = next
	}
	d.lead = d.lead[:was]
	d.depth--
	return b
}

// Tree draws the document.
func Tree(w io.Writer, doc *wire.Tree, opt TreeOptions) error {
	d := NewDrawing(doc.Time, len(doc.Processes), opt)
	for i := range doc.Processes {
		d.Add(&doc.Processes[i])
	}
	text, err := d.Append(nil, doc.Complete)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// Select returns the processes that Tree would draw with these options. No rows are
// counted for it, and nothing is folded.
func Select(doc *wire.Tree, opt TreeOptions) []wire.Process {
	f := &forest{opt: opt}
	for i := range doc.Processes {
		f.add(&doc.Processes[i])
	}
	f.link()
	f.choose()
	selected := make([]wire.Process, 0, len(doc.Processes))
	for i := range doc.Processes {
		if f.nodes[i].shown {
			selected = append(selected, doc.Processes[i])
		}
	}
	return selected
}

// noteOf is what is remarkable about a process.
func noteOf(p *wire.Process, now time.Time) (string, color) {
	if p.State == wire.StateDead {
		s := "† " + Exit(p.Exit, p.PID, p.StartNS)
		if p.ExitedAt != nil {
			s += ", " + Since(now, p.ExitedAt) + " ago"
		}
		return s, dim
	}
	var parts []string
	ink := plain
	if o := p.Orphan; o != nil {
		parts, ink = append(parts, orphanNote(o, now)), verdictColor(o.Verdict)
	}
	if len(p.Ports) > 0 {
		parts = append(parts, portsOf(p))
	}
	if p.Cwd != "" {
		parts = append(parts, "in "+safetext.Terminal(p.Cwd))
	}
	return strings.Join(parts, ", "), ink
}

func orphanNote(o *wire.Orphan, now time.Time) string {
	var b strings.Builder
	if o.Direct {
		b.WriteString("orphan")
	} else {
		b.WriteString("stranded")
	}
	b.WriteString(" (" + safetext.Terminal(o.Verdict) + ")")
	if o.Since != nil && now.After(*o.Since) {
		b.WriteString(" for " + Since(now, o.Since))
	}
	if o.Leaker != nil {
		fmt.Fprintf(&b, ", left by %d %s", o.Leaker.PID, safetext.Name(o.Leaker.Comm))
		if o.Leaker.Exit != nil {
			b.WriteString(" (" + Exit(o.Leaker.Exit, o.Leaker.PID, o.Leaker.StartNS) + ")")
		}
	}
	if a := o.Adopter; a != nil && o.Direct {
		fmt.Fprintf(&b, ", adopted by %d %s", a.PID, safetext.Name(a.Comm))
	}
	return b.String()
}

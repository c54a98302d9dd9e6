// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

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
}

// A row is what is known of a process's line before its place in the drawing is: the
// columns to the left but for the memory, the command, a note.
type row struct {
	at                  int // of the drawing's text
	left, command, note int // bytes
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
	r := row{at: d.text.Len()}
	if p.State == wire.StateDead {
		r.ink = dim
	}
	b := appendColumns(d.buf[:0], p, d.now)
	r.left = len(b)
	b = appendCommand(b, p)
	r.command = len(b) - r.left
	note, ink := noteOf(p, d.now)
	r.note, r.noteInk = len(note), ink
	d.text.Write(b)
	d.text.WriteString(note)
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

// appendColumns appends what stands to the left of the memory.
func appendColumns(b []byte, p *wire.Process, now time.Time) []byte {
	var room [32]byte
	b = appendRight(b, strconv.AppendInt(room[:0], int64(p.PID), 10), 7)
	b = append(b, ' ')
	user := cut(safetext.Field(p.User), 9)
	b = append(b, user...)
	b = appendBlanks(b, 9-utf8.RuneCountInString(user))
	b = append(b, ' ')
	b = appendRight(b, appendSince(room[:0], now, p.StartedAt), 7)
	return append(b, ' ')
}

func appendMemoryColumn(b []byte, r *row) []byte {
	var room [16]byte
	cell := append(room[:0], '-')
	if r.sized {
		cell = quantity.AppendShortSize(room[:0], r.memory)
	}
	return append(appendRight(b, cell, 9), "  "...)
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
	return fmt.Sprintf("%s (%s, %s): ", safetext.Field(l.leak), verdict, count(l.orphans, "orphan"))
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
	b = slices.Grow(b, len(text)+24*len(d.rows)+256)
	header := fmt.Sprintf("%7s %-9s %7s %9s  %s", "PID", "USER", "AGE", "MEMORY", "COMMAND")
	b = append(b, d.opt.paint(bold, header)+"\n"...)
	for _, r := range d.roots {
		b = d.draw(b, text, r, "", "")
	}
	if d.kthreads > 0 {
		count := fmt.Sprintf("%7s %-9s %7s %9s  %d kernel threads (shown with --kernel-threads)", "", "", "", "", d.kthreads)
		b = append(b, d.opt.paint(dim, count)+"\n"...)
	}
	if !complete {
		b = append(b, d.opt.paint(dim, "Some processes are older than the tracer: who spawned them is a guess from their kernel parent.")+"\n"...)
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

// line appends the line of a row behind the lead.
func (d *Drawing) line(b []byte, text string, i int32) []byte {
	r := &d.rows[i]
	text = text[r.at:]
	left, command, note := text[:r.left], text[r.left:][:r.command], text[r.left+r.command:][:r.note]
	if left := d.left[d.nodes[i].id]; left != nil {
		note = strings.Replace(note, "† ", "† "+left.note(), 1)
	}
	began := len(b)
	b = append(b, left...)
	b = appendMemoryColumn(b, r)
	if d.opt.Width > 0 {
		command, note = fit(command, note, d.opt.Width-utf8.RuneCount(b[began:])-utf8.RuneCount(d.lead))
	}
	b = appendPainted(b, d.opt.Style, dim, d.lead)
	b = appendPainted(b, d.opt.Style, r.ink, command)
	if note != "" {
		b = append(b, "  "...)
		b = appendPainted(b, d.opt.Style, r.noteInk, note)
	}
	return append(b, '\n')
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

// Select returns the processes that Tree would draw with these options.
func Select(doc *wire.Tree, root int32, orphans, kernel bool) []wire.Process {
	f := &forest{opt: TreeOptions{Root: root, Orphans: orphans, Kernel: kernel}}
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

// noteOf is what is remarkable about a process.
func noteOf(p *wire.Process, now time.Time) (string, color) {
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
		fmt.Fprintf(&b, ", left by %d %s", o.Leaker.PID, safetext.Name(o.Leaker.Comm))
		if o.Leaker.Exit != nil {
			b.WriteString(" (" + Exit(o.Leaker.Exit) + ")")
		}
	}
	if a := o.Adopter; a != nil && o.Direct {
		fmt.Fprintf(&b, ", adopted by %d %s", a.PID, safetext.Name(a.Comm))
	}
	return b.String()
}

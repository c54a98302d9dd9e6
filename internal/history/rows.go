// SPDX-License-Identifier: Apache-2.0

package history

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A Note is what changes the tree apart from the kernel's records, or is kept beside
// them: words that were read later, verdicts, snapshots, names, samples. What is in Data
// is the matter of whoever wrote it.
type Note struct {
	Type NoteType
	Time uint64 // CLOCK_BOOTTIME ns
	ID   event.ID
	Data []byte
}

// NoteType says what a Note holds. The numbers are in the files: they are never used for
// anything else.
type NoteType uint8

// firstNote is where the numbers of notes begin, above those of kernel records.
const firstNote = 128

// An Entry is one entry of the stream: Event or Note is set.
type Entry struct {
	Seq   uint64
	Event *event.Event
	Note  *Note
}

// rows are entries in columns: the body of a block while it is being filled. Its owner
// appends; nothing in it aliases what was appended.
type rows struct {
	kinds    []byte
	cells    []cells // by column
	words    map[string]uint64
	texts    []byte // the words by their numbers, each with its length
	notes    []byte
	noteLast [3]uint64
	pids     map[int32]struct{}
	from, to uint64 // the earliest and the latest time
	bytes    int    // about how large it is
}

// cells are the values of one column: how often the value before came again, then the
// difference to the next one, and so on. What is behind the last difference is the same.
type cells struct {
	b    []byte
	last uint64
	same uint64
}

func newRows() *rows {
	return &rows{cells: make([]cells, len(columns)), words: make(map[string]uint64), pids: make(map[int32]struct{})}
}

func (r *rows) len() int { return len(r.kinds) }

// reset empties r and keeps its memory.
func (r *rows) reset() {
	r.kinds, r.texts, r.notes = r.kinds[:0], r.texts[:0], r.notes[:0]
	for i := range r.cells {
		r.cells[i] = cells{b: r.cells[i].b[:0]}
	}
	clear(r.words)
	clear(r.pids)
	r.noteLast, r.from, r.to, r.bytes = [3]uint64{}, 0, 0, 0
}

func (r *rows) seen(t uint64, pid int32) {
	if r.from == 0 || t < r.from {
		r.from = t
	}
	r.to = max(r.to, t)
	r.pids[pid] = struct{}{}
}

// appendEvent appends a kernel record.
func (r *rows) appendEvent(e *event.Event) {
	r.kinds = append(r.kinds, byte(e.Kind))
	r.seen(e.Time, e.Subject.PID)
	switch e.Kind {
	case event.KindFork:
		r.pids[e.Fork.Spawner.PID] = struct{}{}
	case event.KindSignal, event.KindCaught:
		r.pids[e.Signal.Sender.PID] = struct{}{}
	}
	for _, i := range plans[e.Kind] {
		c, in := &columns[i], &r.cells[i]
		v := uint64(0)
		if c.Text {
			v = r.word(c.text(e))
		} else {
			v = c.number(e)
		}
		if v == in.last {
			in.same++
			continue
		}
		before := len(in.b)
		in.b = binary.AppendVarint(binary.AppendUvarint(in.b, in.same), int64(v-in.last))
		in.last, in.same = v, 0
		r.bytes += len(in.b) - before
	}
	r.bytes++
}

// word is the number of a text; that of the empty one is 0.
func (r *rows) word(s string) uint64 {
	if s == "" {
		return 0
	}
	n, ok := r.words[s]
	if !ok {
		n = uint64(len(r.words) + 1)
		r.words[s] = n
		r.texts = binary.AppendUvarint(r.texts, uint64(len(s)))
		r.texts = append(r.texts, s...)
		r.bytes += len(s) + 2
	}
	return n
}

// appendNote appends a note.
func (r *rows) appendNote(n *Note) {
	r.kinds = append(r.kinds, byte(n.Type)|firstNote)
	r.seen(n.Time, n.ID.PID)
	before := len(r.notes)
	for i, v := range [...]uint64{n.Time, uint64(int64(n.ID.PID)), n.ID.Start} {
		r.notes = binary.AppendVarint(r.notes, int64(v-r.noteLast[i]))
		r.noteLast[i] = v
	}
	r.notes = binary.AppendUvarint(r.notes, uint64(len(n.Data)))
	r.notes = append(r.notes, n.Data...)
	r.bytes += len(r.notes) - before
}

// encode appends the body of a block to b.
func (r *rows) encode(b []byte) []byte {
	b = appendPart(b, r.kinds)
	b = binary.AppendUvarint(b, uint64(len(r.words)))
	b = appendPart(b, r.texts)
	b = appendPart(b, r.notes)
	for i := range r.cells {
		if cells := r.cells[i].b; len(cells) > 0 {
			b = appendPart(binary.AppendUvarint(b, uint64(i)), cells)
		}
	}
	return b
}

func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

var errBody = errors.New("a block's body makes no sense")

// parts of a body, as encode wrote them, cut from bytes. It remembers that it failed.
type cutter struct {
	b   []byte
	bad bool
}

func (c *cutter) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cutter) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cutter) part() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	part := c.b[:n:n]
	c.b = c.b[n:]
	return part
}

// decodeRows hands the entries of a body to fn, the first with the sequence seq, until fn
// returns false. The event and the note belong to fn only until it returns. listed are
// the columns of the segment, adopted, with their plans.
func decodeRows(body []byte, seq uint64, listed []column, plans *[256][]int, fn func(Entry) bool) error {
	in := cutter{b: body}
	kinds := in.part()
	words, err := in.texts()
	if err != nil {
		return err
	}
	notes := cutter{b: in.part()}
	cells := make([]reading, len(listed))
	for len(in.b) > 0 && !in.bad {
		i := in.uvarint()
		if i >= uint64(len(listed)) {
			return errBody
		}
		cells[i].in.b = in.part()
	}
	if in.bad {
		return errBody
	}
	var noteLast [3]uint64
	var e event.Event
	for i, kind := range kinds {
		entry := Entry{Seq: seq + uint64(i)}
		if kind >= firstNote {
			entry.Note = notes.note(kind, &noteLast)
			if notes.bad {
				return errBody
			}
		} else {
			e = event.Event{Kind: event.Kind(kind)}
			entry.Event = &e
			for _, j := range plans[kind] {
				v := cells[j].next()
				if v != 0 && !listed[j].set(&e, v, words) || cells[j].in.bad {
					return errBody
				}
			}
		}
		if !fn(entry) {
			return nil
		}
	}
	return nil
}

// reading is where a reader stands in the cells of a column.
type reading struct {
	in    cutter
	value uint64
	same  uint64 // how often value comes again before it changes
	known bool   // same was read
}

func (r *reading) next() uint64 {
	if !r.known {
		if len(r.in.b) == 0 {
			return r.value
		}
		r.same, r.known = r.in.uvarint(), true
	}
	if r.same > 0 {
		r.same--
		return r.value
	}
	r.known = false
	r.value += uint64(r.in.varint())
	return r.value
}

// set puts a value into its field, where this program has it.
func (c *column) set(e *event.Event, v uint64, words []string) bool {
	switch {
	case c.Text && v >= uint64(len(words)):
		return false
	case c.kind == 0:
	case c.Text:
		c.setText(e, words[v])
	default:
		c.setNumber(e, v)
	}
	return true
}

// texts returns the words by their numbers; the first is the empty one.
func (c *cutter) texts() ([]string, error) {
	n := c.uvarint()
	in := cutter{b: c.part()}
	if c.bad || n > uint64(len(in.b)) {
		return nil, errBody
	}
	words := make([]string, 1, n+1)
	for range n {
		words = append(words, string(in.part()))
	}
	if in.bad {
		return nil, errBody
	}
	return words, nil
}

func (c *cutter) note(kind byte, last *[3]uint64) *Note {
	for i := range last {
		last[i] += uint64(c.varint())
	}
	pid := int64(last[1])
	if pid > math.MaxInt32 || pid < math.MinInt32 {
		c.bad = true
	}
	return &Note{Type: NoteType(kind &^ firstNote), Time: last[0], ID: event.ID{PID: int32(pid), Start: last[2]}, Data: c.part()}
}

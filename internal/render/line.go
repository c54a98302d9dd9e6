// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// The widths of the columns, with the blanks behind them.
const (
	pidColumn    = 8
	userColumn   = 10
	ageColumn    = 8
	memoryColumn = 11
)

// On a narrower terminal a drawing leaves out the user, and then the age: the command and
// the verdict need the room.
const (
	leastForUser = 100
	leastForAge  = 80
)

// The least columns for a command, on a terminal of 80 columns and on a narrower one, for a
// note, and for the branch before them: a line that says neither who nor what helps nobody.
// The longest verdict, "stranded (deliberate)", fits a note that is cut.
const (
	minText       = 16
	minNarrowText = 8
	minNote       = 22
	minLead       = 4
)

func (d *Drawing) shows(least int) bool { return d.opt.Width <= 0 || d.opt.Width >= least }

// appendColumns appends what stands to the left of the memory.
func (d *Drawing) appendColumns(b []byte, p *wire.Process) []byte {
	var room [32]byte
	b = appendRight(b, strconv.AppendInt(room[:0], int64(p.PID), 10), pidColumn-1)
	b = append(b, ' ')
	if d.shows(leastForUser) {
		user := cut(safetext.Field(p.User), userColumn-1)
		b = append(b, user...)
		b = appendBlanks(b, userColumn-displayWidth(user))
	}
	if d.shows(leastForAge) {
		b = appendRight(b, appendSince(room[:0], d.now, p.StartedAt), ageColumn-1)
		b = append(b, ' ')
	}
	return b
}

// besideColumns is a line of texts in the columns.
func (d *Drawing) besideColumns(pid, user, age, memory, command string) string {
	b := append(appendRight(nil, []byte(pid), pidColumn-1), ' ')
	if d.shows(leastForUser) {
		b = appendBlanks(append(b, user...), userColumn-len(user))
	}
	if d.shows(leastForAge) {
		b = append(appendRight(b, []byte(age), ageColumn-1), ' ')
	}
	b = append(appendRight(b, []byte(memory), memoryColumn-2), "  "...)
	if d.opt.Width > 0 {
		command = cut(command, max(d.opt.Width-len(b), minText))
	}
	return string(b) + command
}

func appendMemoryColumn(b []byte, r *row) []byte {
	var room [16]byte
	cell := append(room[:0], '-')
	if r.sized {
		cell = quantity.AppendShortSize(room[:0], r.memory)
	}
	return append(appendRight(b, cell, memoryColumn-2), "  "...)
}

// line appends the line of i behind the lead.
func (d *Drawing) line(b []byte, text string, i int32) []byte {
	r := &d.rows[i]
	text = text[r.at:]
	left, command, note := text[:r.left], text[r.left:][:r.command], text[r.left+r.command:][:r.note]
	short := text[r.left+r.command+r.note:][:r.short]
	if left := d.left[d.nodes[i].id]; left != nil {
		note = strings.Replace(note, "† ", "† "+left.note(), 1)
	}
	if r.equal > 1 {
		many := strconv.Itoa(r.equal) + " × "
		command, short = many+command, many+short
	}
	began := len(b)
	b = append(b, left...)
	b = appendMemoryColumn(b, r)
	lead := d.lead
	if d.opt.Width > 0 {
		room := d.opt.Width - displayWidth(b[began:])
		lead = d.cutLead(room, note)
		room -= utf8.RuneCount(lead)
		if r.short > 0 && displayWidth(command) > room-displayWidth(note) {
			command = short
		}
		command, note = fit(command, note, room, d.leastText())
	}
	b = appendPainted(b, d.opt.Style, dim, lead)
	b = appendPainted(b, d.opt.Style, r.ink, command)
	if note != "" {
		b = append(b, "  "...)
		b = appendPainted(b, d.opt.Style, r.noteInk, note)
	}
	return append(b, '\n')
}

func (d *Drawing) leastText() int {
	if d.shows(leastForAge) {
		return minText
	}
	return minNarrowText
}

// cutLead is the lead, without its beginning where a deep process would else have no room
// for what it is.
func (d *Drawing) cutLead(room int, note string) []byte {
	most := room - d.leastText()
	if note != "" {
		most -= 2 + min(minNote, displayWidth(note))
	}
	if most = max(most, minLead); utf8.RuneCount(d.lead) <= most {
		return d.lead
	}
	runes := []rune(string(d.lead))
	return []byte("…" + string(runes[max(len(runes)-most+1, 0):]))
}

// fit shortens a command and its note to room columns. The note is what people look
// for: the command gives way first, down to least columns.
func fit(text, note string, room, least int) (string, string) {
	if note == "" {
		return cut(text, max(room, least)), ""
	}
	text = cut(text, max(room-displayWidth(note)-2, least))
	return text, cut(note, max(room-displayWidth(text)-2, minNote))
}

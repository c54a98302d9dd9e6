// SPDX-License-Identifier: Apache-2.0

package history

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write a directory of this format, if there is none")

// thisFormat is a directory as it is written today: a sealed segment, one that is not, and
// notable events. Where the format changes, so does the name, and the old ones stay: later
// versions read them.
const thisFormat = "testdata/format-1"

func TestFormats(t *testing.T) {
	if *update {
		writeFormat(t)
	}
	dirs, err := filepath.Glob("testdata/format-*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%v: nothing of any format", err)
	}
	for _, dir := range dirs {
		a, err := OpenArchive(dir)
		if err != nil {
			t.Fatal(err)
		}
		v := a.View(Stream)
		if got := sequences(t, v, Range{}); !slices.Equal(got, upTo(1, 31)) || v.Missed != 0 || len(a.Skipped) != 0 {
			t.Errorf("%s: %v, %d missed, %v", dir, got, v.Missed, a.Skipped)
		}
		var p played
		if err := v.PlayAt(wall(1<<62), &p); err != nil || p.checkpoint != "checkpoint at 21" || !slices.Equal(p.seqs, upTo(21, 31)) {
			t.Errorf("%s: %v, %s, %v", dir, err, p.checkpoint, p.seqs)
		}
		lines := 0
		if err := a.View(Notable).Lines(Range{}, func(*SegmentHead, Line) bool { lines++; return true }); err != nil || lines != 3 {
			t.Errorf("%s: %v, %d lines", dir, err, lines)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

func writeFormat(t *testing.T) {
	if _, err := os.Stat(thisFormat); !errors.Is(err, fs.ErrNotExist) {
		return // it was written once, and stays
	}
	r := newRig(t).open()
	r.records(20)
	r.settle()
	r.needsStart = true
	r.records(10)
	for range 3 {
		r.Line(r.clock.Load(), []byte(`{"schema":1}`))
	}
	r.settle()
	r.close()
	if err := os.CopyFS(thisFormat, os.DirFS(r.path)); err != nil {
		t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package history

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// played is what a player was told.
type played struct {
	checkpoint string
	seqs       []uint64
	refuse     string // the checkpoint that it cannot use
}

func (p *played) Start(_ *SegmentHead, checkpoint []byte) error {
	if string(checkpoint) == p.refuse {
		return errors.New("refused")
	}
	p.checkpoint, p.seqs = string(checkpoint), nil
	return nil
}

func (p *played) Play(e *Entry, _ bool) bool {
	p.seqs = append(p.seqs, e.Seq)
	return true
}

// wall is the time of a clock's reading.
func wall(ns uint64) time.Time { return epoch.Add(time.Duration(ns)) }

// three fills a store with three segments of twenty records, and returns the clock after each
// record.
func (r *rig) three() []uint64 {
	at := []uint64{0}
	for range 3 {
		r.needsStart = true
		for range 2 {
			for range 10 {
				r.records(1)
				at = append(at, r.clock.Load())
			}
			r.settle()
		}
	}
	return at
}

func TestPlayAt(t *testing.T) {
	r := newRig(t).open()
	begun := r.clock.Load()
	at := r.three()
	check := func(v *View) {
		t.Helper()
		for seq := uint64(1); seq <= 60; seq++ {
			var p played
			if err := v.PlayAt(wall(at[seq]), &p); err != nil {
				t.Fatalf("at %d: %v", seq, err)
			}
			// The checkpoint after the twentieth record was made in the same instant.
			first := (seq/20)*20 + 1
			want := upTo(first, seq+1)
			if seq == 60 {
				first, want = 41, upTo(41, 61)
			}
			if p.checkpoint != fmt.Sprintf("checkpoint at %d", first) || !slices.Equal(p.seqs, want) {
				t.Errorf("at %d: %s, then %v", seq, p.checkpoint, p.seqs)
			}
		}
		var p played
		if err := v.PlayAt(v.Begin(), &p); err != nil || !v.Begin().Equal(wall(begun)) || len(p.seqs) != 0 {
			t.Errorf("at the beginning, %v: %v, %v", v.Begin(), err, p.seqs)
		}
		if err := v.PlayAt(wall(begun-1), &p); !errors.Is(err, ErrNoCheckpoint) {
			t.Errorf("before the first: %v", err)
		}
		if err := v.PlayAt(wall(at[60]).Add(time.Hour), &p); err != nil || !slices.Equal(p.seqs, upTo(41, 61)) {
			t.Errorf("after the last: %v: %v", err, p.seqs)
		}
		p.refuse = "checkpoint at 41"
		if err := v.PlayAt(wall(at[50]), &p); err != nil || !slices.Equal(p.seqs, upTo(21, 41)) || v.Missed == 0 {
			t.Errorf("where a checkpoint is of no use: %v: %v, %d missed", err, p.seqs, v.Missed)
		}
	}
	check(r.View(Stream))
	archive, err := OpenArchive(r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	check(archive.View(Stream))
}

func TestLastAbout(t *testing.T) {
	r := newRig(t).open()
	at := r.three()
	for _, test := range []struct {
		pid   int32
		t     uint64
		want  uint64 // the sequence, which is the pid
		found bool
	}{
		{5, at[60], 5, true}, {5, at[5], 5, true}, {5, at[5] - 1, 0, false}, {45, at[60], 45, true}, {999, at[60], 0, false},
	} {
		got, found, err := r.View(Stream).LastAbout(test.pid, wall(test.t))
		if err != nil || found != test.found || found && !got.Equal(wall(at[test.want])) {
			t.Errorf("pid %d: %v, %v, %v", test.pid, got, found, err)
		}
	}
}

// tarOf is a tar archive of files.
func tarOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchives(t *testing.T) {
	r := newRig(t).open()
	r.three()
	r.Line(r.clock.Load(), []byte(`{"n":1}`))
	r.settle()
	r.close()
	files := make(map[string][]byte)
	names, err := filepath.Glob(filepath.Join(r.path, "*"))
	if err != nil || len(names) != 4 {
		t.Fatalf("%v: %v", names, err)
	}
	for _, name := range names {
		if files[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	files["README"] = []byte("of no interest")
	files[segmentName(Stream, 4711)] = []byte("no segment")
	whole := tarOf(t, files)
	for what, text := range map[string][]byte{"whole": whole, "cut": whole[:len(whole)-2000]} {
		file := filepath.Join(t.TempDir(), "export")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := OpenArchive(file)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := sequences(t, a.View(Stream), Range{}); what == "whole" && !slices.Equal(got, upTo(1, 61)) {
			t.Errorf("%s: %v", what, got)
		}
		if what == "whole" && (len(a.Skipped) != 1 || !strings.Contains(a.Skipped[0].Error(), segmentName(Stream, 4711))) {
			t.Errorf("%s: skipped %v", what, a.Skipped)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	for what, text := range map[string]string{"empty": "", "text": strings.Repeat("no history\n", 100), "other": string(tarOf(t, map[string][]byte{"a": nil}))} {
		file := filepath.Join(t.TempDir(), "export")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := OpenArchive(file); err == nil {
			t.Errorf("%s: %v", what, a)
		}
	}
	if a, err := OpenArchive(t.TempDir()); err == nil {
		t.Errorf("an empty directory: %v", a)
	}
}

// TestPlayOn plays while more is written, and refuses some entries at first.
func TestPlayOn(t *testing.T) {
	r := newRig(t).open()
	at, p := Place{Next: 5}, &refusing{refuse: map[uint64]int{5: 1, 17: 2, 41: 1}}
	want := uint64(5)
	for range 6 {
		if r.Seq() > 1 && r.Seq()%20 == 1 {
			r.needsStart = true
		}
		r.records(10)
		r.settle()
		for range 4 { // until nothing is refused
			if err := r.View(Stream).PlayOn(&at, p); err != nil {
				t.Fatal(err)
			}
		}
		if want = max(want, r.Seq()); at.Next != want {
			t.Fatalf("at %d, want %d", at.Next, want)
		}
	}
	if !slices.Equal(p.asked, upTo(5, 61)) || p.starts != 3 {
		t.Errorf("%d starts: %v", p.starts, p.asked)
	}
}

type refusing struct {
	refuse map[uint64]int
	asked  []uint64
	starts int
}

func (p *refusing) Start(*SegmentHead, []byte) error { p.starts++; return nil }

func (p *refusing) Play(e *Entry, asked bool) bool {
	if p.refuse[e.Seq] > 0 {
		p.refuse[e.Seq]--
		return false
	}
	if asked {
		p.asked = append(p.asked, e.Seq)
	}
	return true
}

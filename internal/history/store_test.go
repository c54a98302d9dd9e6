// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// A rig is a store in a directory of the test's own, with clocks that the test moves.
type rig struct {
	t    *testing.T
	path string
	opt  Options
	*Store
	clock atomic.Uint64
	log   bytes.Buffer
	free  atomic.Int64 // percent
}

var epoch = time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)

func newRig(t *testing.T) *rig {
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "history")}
	r.clock.Store(uint64(time.Hour))
	r.free.Store(50)
	r.opt = Options{Machine: "machine", Boot: "boot", Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		now:  func() uint64 { return r.clock.Load() },
		wall: func() time.Time { return epoch.Add(time.Duration(r.clock.Load())) },
		free: func() (int64, int64, error) { return r.free.Load() << 30, 100 << 30, nil }}
	return r
}

func (r *rig) open() *rig {
	r.t.Helper()
	dir, err := rootfile.Own.MakeDir(r.path, 0o700)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = dir.Close() })
	if r.Store, err = Open(dir, r.opt); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	if r.Store != nil {
		_ = r.Store.Close()
		r.Store = nil
	}
}

// settle writes what is in memory and seals what can be sealed.
func (r *rig) settle() {
	r.Flush()
	r.Wait(time.Minute)
	r.sealAll()
	r.retain()
}

func (r *rig) records(n int) {
	if r.NeedsCheckpoint() {
		r.Checkpoint(fmt.Appendf(nil, "checkpoint at %d", r.Seq()))
		r.Wait(time.Minute) // before the clock moves on
	}
	for range n {
		seq := r.Seq()
		r.Append(&event.Event{Kind: event.KindExit, Subject: event.ID{PID: int32(seq % 1000), Start: seq}, Time: r.clock.Add(1e6)})
	}
}

// sequences returns what the stream holds, and fails where an entry is not its own.
func sequences(t *testing.T, v *View, r Range) (seqs []uint64) {
	t.Helper()
	err := v.Entries(r, func(_ *SegmentHead, e Entry) bool {
		if e.Event.Subject.Start != e.Seq {
			t.Errorf("entry %d holds %v", e.Seq, e.Event.Subject)
		}
		seqs = append(seqs, e.Seq)
		return true
	})
	if err != nil {
		t.Error(err)
	}
	return seqs
}

func upTo(from, end uint64) (seqs []uint64) {
	for i := from; i < end; i++ {
		seqs = append(seqs, i)
	}
	return seqs
}

func TestWhatIsWrittenComesBack(t *testing.T) {
	r := newRig(t).open()
	r.records(100)
	for i := range 5 {
		r.Line(r.clock.Load(), fmt.Appendf(nil, `{"n":%d}`, i))
	}
	r.settle()
	r.records(50)
	r.settle()
	check := func() {
		t.Helper()
		if got := sequences(t, r.View(Stream), Range{}); !slices.Equal(got, upTo(1, 151)) {
			t.Errorf("%d entries: %v", len(got), got)
		}
		var lines []string
		if err := r.View(Notable).Lines(Range{FromSeq: 3}, func(_ *SegmentHead, l Line) bool { lines = append(lines, string(l.JSON)); return true }); err != nil {
			t.Error(err)
		}
		if want := []string{`{"n":2}`, `{"n":3}`, `{"n":4}`}; !slices.Equal(lines, want) {
			t.Errorf("lines %q", lines)
		}
	}
	check()
	first := r.Epoch()
	r.close()
	r.open()
	r.settle() // what the one before left is sealed now
	check()
	if r.Epoch() != first || r.Seq() != 151 || r.NotableSeq() != 6 {
		t.Errorf("epoch %s, seq %d, notable %d", r.Epoch(), r.Seq(), r.NotableSeq())
	}
	r.records(10)
	r.settle()
	if got := sequences(t, r.View(Stream), Range{}); !slices.Equal(got, upTo(1, 161)) {
		t.Errorf("after a restart: %v", got)
	}
	_, body, seq, ok := r.View(Stream).Checkpoint(epoch.Add(time.Duration(r.clock.Load())))
	if !ok || seq != 151 || string(body) != "checkpoint at 151" {
		t.Errorf("checkpoint %q at %d, %v", body, seq, ok)
	}
}

func TestRanges(t *testing.T) {
	r := newRig(t).open()
	for range 4 {
		r.records(1000)
		r.settle()
	}
	v := r.View(Stream)
	at := func(seq uint64) time.Time { return epoch.Add(time.Hour + time.Duration(seq)*time.Millisecond) }
	if got := sequences(t, v, Range{From: at(500), To: at(1500)}); !slices.Equal(got, upTo(500, 1501)) {
		t.Errorf("by time: %d entries, %v to %v", len(got), got[0], got[len(got)-1])
	}
	if got := sequences(t, v, Range{FromSeq: 1999, ToSeq: 2003}); !slices.Equal(got, upTo(1999, 2003)) {
		t.Errorf("by sequence: %v", got)
	}
	if got := sequences(t, v, Range{PID: 17}); !slices.Equal(got, []uint64{17, 1017, 2017, 3017}) {
		t.Errorf("by pid: %v", got)
	}
	if first, end, from, to := v.Span(); first != 1 || end != 4001 || !from.Equal(at(1)) || !to.Equal(at(4000)) {
		t.Errorf("span %d to %d, %v to %v", first, end, from, to)
	}
}

// A writer that dies leaves whatever part of its last block: at each place everything
// before it is read, nothing else, and what is written next follows.
func TestTornTails(t *testing.T) {
	r := newRig(t).open()
	r.records(20)
	r.settle()
	r.records(20)
	r.settle()
	name := r.segments[Stream][0].name
	last := r.segments[Stream][0].refs[2]
	r.close()
	whole, err := os.ReadFile(filepath.Join(r.path, name))
	if err != nil {
		t.Fatal(err)
	}
	for cut := int(last.offset); cut < len(whole); cut++ {
		if err := os.WriteFile(filepath.Join(r.path, name), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		archive, err := OpenArchive(r.path)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		v := archive.View(Stream)
		if got := sequences(t, v, Range{}); !slices.Equal(got, upTo(1, 21)) || v.Missed != 0 {
			t.Fatalf("cut at %d: %v, %d missed", cut, got, v.Missed)
		}
		_ = archive.Close()
	}
	r.open()
	r.records(5)
	r.settle()
	if got := sequences(t, r.View(Stream), Range{}); !slices.Equal(got, upTo(1, 26)) {
		t.Errorf("written on: %v", got)
	}
}

// A flipped bit costs its block at most, and is told.
func TestFlippedBits(t *testing.T) {
	r := newRig(t).open()
	for range 3 {
		r.records(20)
		r.settle()
	}
	name := r.segments[Stream][0].name
	r.close()
	for _, sealed := range []bool{false, true} {
		if sealed {
			r.open()
			r.settle()
			r.close()
		}
		whole, err := os.ReadFile(filepath.Join(r.path, name))
		if err != nil {
			t.Fatal(err)
		}
		_, begin, err := readSegmentHead(bytes.NewReader(whole))
		if err != nil {
			t.Fatal(err)
		}
		for at := int(begin); at < len(whole); at++ {
			broken := bytes.Clone(whole)
			broken[at] ^= 1 << (at % 8)
			seg := &segment{name: name, size: int64(len(broken))}
			seg.head, _, err = readSegmentHead(bytes.NewReader(broken))
			if err != nil {
				t.Fatal(err)
			}
			if seg.refs, seg.sealed = readIndex(bytes.NewReader(broken), seg.size); !seg.sealed {
				seg.refs, _, _ = scanBlocks(bytes.NewReader(broken), begin, seg.size)
			}
			v := &View{segments: []segment{*seg}, open: func(string) (reader, error) { return nopCloser{bytes.NewReader(broken)}, nil }}
			if got := sequences(t, v, Range{}); len(got) < 40 {
				t.Fatalf("sealed %v, bit at %d: only %v", sealed, at, got)
			}
		}
	}
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

func TestRetention(t *testing.T) {
	r := newRig(t)
	r.opt.Limits = Limits{Size: 1 << 30, Age: 10 * time.Hour, NotableSize: 1 << 30}
	r.open()
	for range 30 {
		r.records(100)
		r.settle()
		r.clock.Add(uint64(time.Hour))
	}
	r.settle()
	first, end, _, _ := r.View(Stream).Span()
	if end != 3001 || first < 2001 || first > 2201 {
		t.Errorf("by age: %d to %d", first, end)
	}
	r.SetLimits(Limits{Size: 1, Age: 10 * time.Hour})
	r.records(1)
	r.settle()
	if n := len(r.segments[Stream]); n != 1 {
		t.Errorf("by size: %d segments", n)
	}
	if got := sequences(t, r.View(Stream), Range{}); len(got) == 0 || got[len(got)-1] != r.Seq()-1 {
		t.Errorf("the active segment went: %v", got)
	}
}

// Where the disk is nearly full the lifecycle is not written, what is notable is, and
// when there is room again a new segment begins.
func TestDiskFull(t *testing.T) {
	r := newRig(t).open()
	r.records(10)
	r.settle()
	r.free.Store(5)
	r.records(10)
	r.Line(r.clock.Load(), []byte(`{"kept":true}`))
	r.settle()
	if n := r.TakeDropped(); n != 10 {
		t.Errorf("%d dropped", n)
	}
	if st := r.Stats(); !strings.Contains(st.Error, ErrNoSpace.Error()) {
		t.Errorf("error %q", st.Error)
	}
	r.free.Store(50)
	r.clock.Add(uint64(retryTime))
	r.records(10)
	r.settle()
	if got := sequences(t, r.View(Stream), Range{}); !slices.Equal(got, append(upTo(1, 11), upTo(21, 31)...)) {
		t.Errorf("%v", got)
	}
	n := 0
	_ = r.View(Notable).Lines(Range{}, func(*SegmentHead, Line) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d notable lines", n)
	}
}

func TestSetsAside(t *testing.T) {
	r := newRig(t).open()
	r.records(10)
	r.settle()
	r.close()
	other := r.opt
	other.Machine = "another"
	files, _ := os.ReadDir(r.path)
	for name, b := range map[string][]byte{
		segmentName(Stream, 77):       []byte("nonsense"),
		segmentName(Stream, 78):       nil,
		segmentName(Notable, 79):      append([]byte(segmentMagic), 255, 255, 255, 255),
		"unrelated":                   []byte("kept"),
		files[0].Name() + sealingMark: []byte("half"),
	} {
		if err := os.WriteFile(filepath.Join(r.path, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.open()
	if st := r.Stats(); st.SetAside != 3 || strings.Count(r.log.String(), "set aside") != 3 {
		t.Errorf("%d set aside: %s", st.SetAside, &r.log)
	}
	if got := sequences(t, r.View(Stream), Range{}); !slices.Equal(got, upTo(1, 11)) {
		t.Errorf("%v", got)
	}
	r.close()
	names, _ := filepath.Glob(r.path + "/*")
	if joined := strings.Join(names, " "); strings.Contains(joined, sealingMark) || !strings.Contains(joined, "unrelated") || strings.Count(joined, asideMark) != 3 {
		t.Errorf("files: %s", joined)
	}
	r.opt = other
	r.open()
	if got := sequences(t, r.View(Stream), Range{}); len(got) != 0 {
		t.Errorf("another machine's history is read: %v", got)
	}
}

// While the writer cannot keep up, the loop goes on, and what was dropped is counted.
func TestWriterLags(t *testing.T) {
	r := newRig(t)
	blocked := make(chan struct{})
	r.opt.free = func() (int64, int64, error) { <-blocked; return 50, 100, nil }
	r.open()
	big := strings.Repeat("x", 3000)
	r.Checkpoint([]byte("c"))
	for i := range 30000 {
		r.Append(&event.Event{Kind: event.KindExec, Time: 1, Exec: event.Exec{Cmdline: fmt.Sprint(big, i)}})
	}
	r.Flush()
	dropped := r.TakeDropped()
	if dropped == 0 {
		t.Error("nothing was dropped: memory has no bound")
	}
	close(blocked)
	r.Wait(time.Minute)
	n := uint64(0)
	if err := r.View(Stream).Entries(Range{}, func(*SegmentHead, Entry) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	if n+dropped != 30000 {
		t.Errorf("%d kept and %d dropped of 30000", n, dropped)
	}
}

func TestSynced(t *testing.T) {
	r := newRig(t)
	var synced atomic.Uint64
	r.opt.OnSynced = func(seq uint64) { synced.Store(seq) }
	r.open()
	r.records(10)
	r.settle()
	if synced.Load() != 11 {
		t.Errorf("synced up to %d", synced.Load())
	}
}

func TestTick(t *testing.T) {
	r := newRig(t).open()
	if at := r.Tick(r.clock.Load()); at != 0 {
		t.Errorf("nothing waits, and the next tick is at %d", at)
	}
	r.records(1)
	begun := r.clock.Load()
	if at := r.Tick(begun + 1); at == 0 || at > begun+uint64(blockTime) {
		t.Errorf("the next tick is at %d", at)
	}
	if at := r.Tick(begun + uint64(blockTime)); at != 0 || r.rows.len() != 0 {
		t.Errorf("not handed over after a second")
	}
	r.records(1)
	r.Line(begun, []byte("{}"))
	begun = r.clock.Load()
	if at := r.Tick(begun + 1); at == 0 || at > begun+uint64(lineTime) {
		t.Errorf("something notable waits, and the next tick is at %d", at)
	}
	if at := r.Tick(begun + uint64(lineTime)); at != 0 || r.rows.len() != 0 || len(r.lines.times) != 0 {
		t.Errorf("not handed over soon")
	}
}

func TestCursor(t *testing.T) {
	for _, c := range []Cursor{{"0123456789ab", Stream, 1}, {"x", Notable, 1 << 63}} {
		got, err := ParseCursor(c.String())
		if err != nil || got != c {
			t.Errorf("%v: got %v, %v", c, got, err)
		}
	}
	for _, s := range []string{"", "s", "sx", "s.1", "xa.1", "sa.", "sa.-1", "sa.01", "sa.1 ", "sa.1x", "nab.99999999999999999999"} {
		if c, err := ParseCursor(s); err == nil {
			t.Errorf("%q was taken as %v", s, c)
		}
	}
}

func FuzzSegment(f *testing.F) {
	head := &SegmentHead{Format: 1, Class: Stream, Columns: columns}
	b, err := head.encode()
	if err != nil {
		f.Fatal(err)
	}
	r := newRows()
	for _, e := range storm(3) {
		r.appendEvent(&e)
	}
	f.Add(appendBlock(b, &blockHead{kind: blockRows, codec: codecS2, count: 9}, r.encode(nil), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		head, at, err := readSegmentHead(in)
		if err != nil {
			return
		}
		seg := segment{head: head, size: int64(len(b))}
		seg.refs, _, _ = scanBlocks(in, at, seg.size)
		v := &View{segments: []segment{seg}, open: func(string) (reader, error) { return nopCloser{in}, nil }}
		_ = v.Entries(Range{}, func(*SegmentHead, Entry) bool { return true })
		_ = v.Lines(Range{}, func(*SegmentHead, Line) bool { return true })
	})
}

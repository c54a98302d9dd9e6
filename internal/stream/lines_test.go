// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestStalledLines has readers stall at different times, who want different things. What
// waits for all of them together is bounded, and each is told exactly what it missed.
func TestStalledLines(t *testing.T) {
	const readers = 100
	for _, test := range []struct {
		name    string
		text    string // makes the lines long
		between int    // lines, which are more in all than wait
	}{{"many", "", 2 * backlogLines / readers}, {"long", strings.Repeat("x", 2000), 2 * backlogBytes / 2000 / readers}} {
		t.Run(test.name, func(t *testing.T) {
			var h hub
			published := uint64(0)
			publish := func() {
				published++
				e := &wire.Event{Type: wire.Types[published%2], Seq: published, TimeNS: published, ID: test.text}
				h.publish(e)
				h.flush()
				if h.backlog.full() {
					t.Fatalf("%d lines and %d bytes wait", len(h.backlog.lines), h.backlog.bytes)
				}
			}
			all := make([]*Lines, readers)
			for i := range all {
				all[i] = &Lines{hub: &h, types: newTypeSet(wire.Types[:1+i%2]), news: func() {}, done: make(chan struct{})}
				h.follow(all[i])
				for range test.between {
					publish()
				}
			}
			held := uint64(len(h.backlog.lines))
			for i, l := range all {
				began := uint64(i * test.between)
				want := (published - began) / uint64(2-i%2)
				got, missed, first := uint64(0), uint64(0), uint64(0)
				for {
					m, since, text := l.Take(nil, 1<<16)
					if missed += m; m > 0 {
						first = since
					}
					if len(text) == 0 {
						break
					}
					got += uint64(bytes.Count(text, []byte("\n")))
				}
				if got+missed != want || (missed > 0) != (published-began > held) || missed > 0 && first-began > 2 {
					t.Errorf("reader %d: %d taken, %d missed since %d, want %d in all", i, got, missed, first-began, want)
				}
			}
			publish()
			if n := len(h.backlog.lines); n != 1 {
				t.Errorf("%d lines wait for those who have not taken one", n)
			}
			_, _, last := all[0].Take(nil, 1)
			if len(last) != 0 && !bytes.Contains(last, fmt.Appendf(nil, `"seq":%d,`, published)) {
				t.Errorf("got %s", last)
			}
			for _, l := range all {
				l.Close()
			}
			if len(h.backlog.lines) != 0 || h.backlog.bytes != 0 {
				t.Errorf("%d lines and %d bytes wait for nobody", len(h.backlog.lines), h.backlog.bytes)
			}
		})
	}
}

// TestSlowReaderCatchesUp has a reader take two lines of each three of a burst of 60,000,
// and the rest when it is over: it misses none.
func TestSlowReaderCatchesUp(t *testing.T) {
	const burst = 60000
	var h hub
	l := &Lines{hub: &h, types: newTypeSet(nil), news: func() {}, done: make(chan struct{})}
	h.follow(l)
	defer l.Close()
	long := strings.Repeat("x", 500)
	got, missed := 0, uint64(0)
	take := func(limit int) int {
		m, _, text := l.Take(nil, limit)
		missed += m
		n := bytes.Count(text, []byte("\n"))
		got += n
		return n
	}
	for i := range burst {
		h.publish(&wire.Event{Type: wire.TypeExec, Seq: uint64(i), ID: long})
		if i%3 != 0 {
			take(1)
		}
	}
	for take(1<<16) > 0 {
	}
	if got != burst || missed != 0 {
		t.Errorf("%d lines taken and %d missed of %d", got, missed, burst)
	}
}

// TestLeftBeforeFollowing has a reader leave before the loop comes to register it: no
// lines are made for it.
func TestLeftBeforeFollowing(t *testing.T) {
	var h hub
	l := &Lines{hub: &h, types: newTypeSet(nil), news: func() {}, done: make(chan struct{})}
	l.Close()
	h.follow(l)
	if len(h.lines) != 0 || h.wants(typeBit(wire.TypeFork)) {
		t.Errorf("%d readers, who want %x", len(h.lines), h.wanted.Load())
	}
}

// TestPace has lines wait for more of them, but neither for long nor when no more come,
// and has who takes them get whole ones out of memory that serves again.
func TestPace(t *testing.T) {
	var h hub
	told := 0
	l := &Lines{hub: &h, types: newTypeSet(nil), done: make(chan struct{})}
	var text []byte
	l.news = func() {
		told++
		_, _, text = l.Take(text[:0], 1<<20)
	}
	h.follow(l)
	defer l.Close()
	seq := uint64(0)
	publish := func() {
		seq++
		h.publish(&wire.Event{Type: wire.TypeFork, Seq: seq})
	}
	expect := func(what string, want int) {
		t.Helper()
		if told != want {
			t.Fatalf("%s: told %d times, want %d", what, told, want)
		}
	}
	publish()
	h.flushPaced(1)
	expect("the first", 1)
	h.flushed = time.Now().Add(time.Hour) // no time passes
	publish()
	h.flushPaced(1)
	expect("soon after", 1)
	h.flushPaced(0)
	expect("no more came", 2)
	if !bytes.Contains(text, fmt.Appendf(nil, `"seq":%d,`, seq)) || bytes.Count(text, []byte("\n")) != 1 {
		t.Errorf("got %s", text)
	}
	h.flushed = time.Now().Add(time.Hour)
	block := &h.text[:1][0]
	for h.unflushed < paceBytes {
		publish()
		expect("fewer", 2)
	}
	h.flushPaced(1)
	expect("many", 3)
	publish()
	if &h.text[0] != block {
		t.Error("what nobody waits for does not serve again")
	}
	h.flushed = time.Now().Add(-paceTime)
	h.flushPaced(1)
	expect("later", 4)
}

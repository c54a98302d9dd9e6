// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

const testRingSize = 4096

// A writer plays the kernel's side of a ring in ordinary memory: the data stands twice
// in a row, as the real mapping shows it.
type writer struct {
	ring *ring
	at   uint64
}

func newWriter() *writer {
	aligned := func(n int) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(&make([]uint64, n/8)[0])), n) }
	return &writer{ring: &ring{size: testRingSize, consumer: aligned(4096), producer: aligned(4096), data: aligned(2 * testRingSize), waker: -1, timer: -1}}
}

// reserve writes a record with that in its length word, and returns where it begins; false
// where there is no room.
func (w *writer) reserve(payload []byte, bits uint32) (uint64, bool) {
	total := (uint64(len(payload)) + ringHeaderSize + 7) &^ 7
	if w.at+total-atomic.LoadUint64(position(w.ring.consumer)) > testRingSize {
		return 0, false
	}
	begin := w.at
	for i, c := range payload {
		w.put(begin+ringHeaderSize+uint64(i), c)
	}
	w.mark(begin, uint32(len(payload))|bits)
	w.at += total
	atomic.StoreUint64(position(w.ring.producer), w.at)
	return begin, true
}

func (w *writer) put(at uint64, c byte) {
	w.ring.data[at%testRingSize], w.ring.data[at%testRingSize+testRingSize] = c, c
}

func (w *writer) mark(at uint64, word uint32) {
	for i := range uint64(4) {
		w.put(at+i, byte(word>>(8*i)))
	}
}

func TestRingOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWriter()
		w.at = rapid.Uint64Range(0, 1<<40).Draw(t, "start") &^ 7
		w.ring.at = w.at
		atomic.StoreUint64(position(w.ring.consumer), w.at)
		atomic.StoreUint64(position(w.ring.producer), w.at)
		var want []string
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "write") {
				b := make([]byte, rapid.IntRange(8, 700).Draw(t, "size"))
				copy(b, fmt.Sprintf("%07d.", i))
				discard := rapid.IntRange(0, 4).Draw(t, "discard") == 0
				bits := uint32(0)
				if discard {
					bits = ringDiscard
				}
				if _, ok := w.reserve(b, bits); ok && !discard {
					want = append(want, string(b))
				}
				continue
			}
			limit := rapid.IntRange(1, 5).Draw(t, "limit")
			var got []string
			n := w.ring.read(limit, func(b []byte) { got = append(got, string(b)) })
			if n != len(got) || n != min(limit, len(want)) {
				t.Fatalf("read %d of %d, limit %d, returned %d", len(got), len(want), limit, n)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("record %q, want %q", got[i], want[i])
				}
			}
			want = want[n:]
		}
	})
}

// TestRingCommit gives a record back when it was handled, not before: a reader that dies
// in between finds it again.
func TestRingCommit(t *testing.T) {
	w := newWriter()
	for range 2 {
		w.reserve(make([]byte, 24), 0)
	}
	var during []uint64
	w.ring.read(10, func([]byte) { during = append(during, atomic.LoadUint64(position(w.ring.consumer))) })
	if during[0] != 0 || during[1] != 32 || w.ring.used() != 0 {
		t.Errorf("given back %v while handling, %d bytes left", during, w.ring.used())
	}
}

func TestRingBusy(t *testing.T) {
	w := newWriter()
	first, _ := w.reserve(make([]byte, 8), ringBusy)
	w.reserve(make([]byte, 8), 0)
	count := func() int { return w.ring.read(10, func([]byte) {}) }
	if n := count(); n != 0 {
		t.Errorf("read %d past a record that is being written", n)
	}
	w.mark(first, 8)
	if n := count(); n != 2 {
		t.Errorf("read %d, want 2", n)
	}
}

// watchNobody gives a ring what it waits by, with a pipe that nobody writes to in the
// place of the kernel's ring.
func watchNobody(t *testing.T, r *ring) {
	t.Helper()
	nobody, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nobody.Close(); w.Close() })
	if err := r.watch(int(nobody.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.epoll.Close(); unix.Close(r.waker); unix.Close(r.timer) })
}

// TestWaitWakes ends waits by Wake, by their time, and, with a time that has passed, at once.
func TestWaitWakes(t *testing.T) {
	r := new(ring)
	watchNobody(t, r)
	for _, d := range []time.Duration{-time.Hour, -1, 0, 1, time.Millisecond} {
		if err := r.wait(d); err != nil {
			t.Errorf("wait %v: %v", d, err)
		}
	}
	// Each of these would outlast the test.
	for _, d := range []time.Duration{time.Hour, 1 << 62} {
		go r.wake()
		if err := r.wait(d); err != nil {
			t.Errorf("wait %v: %v", d, err)
		}
	}
}

// TestRingEnough has the reader of a record end the reading behind it, that time only.
func TestRingEnough(t *testing.T) {
	w := newWriter()
	for range 3 {
		w.reserve(make([]byte, 8), 0)
	}
	end := w.ring.written()
	if n := w.ring.read(10, func([]byte) { w.ring.enough = true }); n != 1 {
		t.Errorf("read %d, want 1", n)
	}
	if w.ring.at == end {
		t.Error("it stands at the end already")
	}
	if n := w.ring.read(10, func([]byte) {}); n != 2 {
		t.Errorf("read %d more, want 2", n)
	}
	if w.ring.at != end {
		t.Errorf("it stands at %d, want %d", w.ring.at, end)
	}
	w.reserve(make([]byte, 8), ringBusy)
	if w.ring.written() == end {
		t.Error("a record that is being written is not noticed")
	}
}

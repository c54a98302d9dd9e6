// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"
	"time"
)

// A record that is still being written may hide one behind it whose wake-up has come
// and gone: the reader must look again soon, by itself.
func TestWaitIsShortBehindARecordThatIsBeingWritten(t *testing.T) {
	w := newWriter()
	r := w.ring
	watchNobody(t, r)
	first, _ := w.reserve([]byte("12345678"), ringBusy)
	w.reserve([]byte("12345678"), 0)
	ignore := func([]byte) {}
	if n := r.read(10, ignore); n != 0 {
		t.Fatalf("read %d records past one that is not complete", n)
	}
	began := time.Now()
	if err := r.wait(time.Hour); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > time.Minute {
		t.Errorf("waited %v", d)
	}
	w.mark(first, 8)
	if n := r.read(10, ignore); n != 2 || r.stalled {
		t.Errorf("read %d records, stalled %v; want 2, false", n, r.stalled)
	}
}

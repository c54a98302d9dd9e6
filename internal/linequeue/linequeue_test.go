// SPDX-License-Identifier: Apache-2.0

package linequeue

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestUnreadPipe fills a pipe that nobody reads: no line waits, memory is bounded, and
// once it is read the lines are whole, in order, and those left out are counted.
func TestUnreadPipe(t *testing.T) {
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w := New(out)
	log := slog.New(slog.NewTextHandler(w, nil))
	const lines = 50000
	for i := range lines {
		log.Info("line", "n", i)
	}
	w.mu.Lock()
	waiting, leftOut := len(w.waiting), w.leftOut
	w.mu.Unlock()
	if waiting > MaxBytes || leftOut == 0 {
		t.Errorf("%d bytes wait, %d lines left out", waiting, leftOut)
	}

	var text bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = text.ReadFrom(r) })
	w.Close(time.Minute)
	out.Close()
	reading.Wait()
	last, got, told := -1, 0, uint64(0)
	for line := range strings.Lines(text.String()) {
		var n int
		if _, err := fmt.Sscanf(line[strings.Index(line, "msg="):], "msg=line n=%d\n", &n); err == nil {
			if n <= last {
				t.Fatalf("%d after %d", n, last)
			}
			last, got = n, got+1
			continue
		}
		var more uint64
		if _, err := fmt.Sscanf(line[strings.Index(line, "lines="):], "lines=%d", &more); err != nil {
			t.Fatalf("not whole: %q", line)
		}
		told += more
	}
	if uint64(got)+told > lines || got == 0 || uint64(got)+leftOut < lines {
		t.Errorf("%d lines came, %d were told as left out, of %d", got, told, lines)
	}
}

// TestCloseGivesUp: one that never takes anything does not hold up the end.
func TestCloseGivesUp(t *testing.T) {
	stuck := make(chan struct{})
	w := New(writerFunc(func(b []byte) (int, error) { <-stuck; return len(b), nil }))
	fmt.Fprintln(w, "x")
	w.Close(10 * time.Millisecond)
	fmt.Fprintln(w, "after the end")
	close(stuck)
	<-w.done
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

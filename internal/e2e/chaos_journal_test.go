// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	le "encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A journald is a socket in its place, which nobody reads until read is called.
type journald struct {
	t    testing.TB
	conn *net.UnixConn

	mu     sync.Mutex
	events map[string]int // records by ABOT_EVENT
	lost   int            // as told by records
}

func newJournald(t testing.TB) *journald {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(notify.JournalSocket), 0o755); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify.JournalSocket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		os.Remove(notify.JournalSocket)
	})
	return &journald{t: t, conn: conn, events: make(map[string]int)}
}

// read takes records until the socket is closed.
func (j *journald) read() {
	for b := make([]byte, 1<<20); ; {
		n, err := j.conn.Read(b)
		if err != nil {
			return
		}
		lost, _ := strconv.Atoi(field(b[:n], "ABOT_LOST"))
		j.mu.Lock()
		kind := field(b[:n], "ABOT_EVENT")
		j.events[kind]++
		if kind == "dropped" {
			j.lost += lost
		}
		j.mu.Unlock()
	}
}

// field is a field of a record, whose values have their length before them.
func field(record []byte, name string) string {
	_, rest, ok := bytes.Cut(record, []byte("\n"+name+"\n"))
	if !ok || len(rest) < 8 {
		return ""
	}
	n := le.LittleEndian.Uint64(rest)
	if uint64(len(rest)-8) < n {
		return ""
	}
	return string(rest[8 : 8+n])
}

func (j *journald) counts() (orphans, lost int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.events[wire.TypeOrphan], j.lost
}

// leave starts shells that leave each so many children behind, and returns when all are
// orphans. They end with the test.
func leave(t testing.TB, shells, children int) {
	t.Helper()
	stay, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end.Close() })
	defer stay.Close()
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do (read line <&3) & i=$((i+1)); done; exit 1`, children)
	for range shells {
		cmd := exec.Command("sh", "-c", script, strings.Repeat("x", 3500))
		cmd.ExtraFiles = []*os.File{stay}
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
			t.Fatalf("a shell: %v", err)
		}
	}
}

// notices is how many notices of journald's had this result, by the metrics.
func (d *daemon) notices(result string) (n int) {
	d.t.Helper()
	for _, line := range strings.Split(d.metrics(), "\n") {
		if name, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(name, "abot_trace_") &&
			strings.Contains(name, `"journald"`) && strings.Contains(name, `"`+result+`"`) {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return int(f)
		}
	}
	d.t.Fatalf("no metric of journald's %s", result)
	return 0
}

// TestChaosJournald takes journald away, and then gives one back that does not read.
// Nothing waits for it; what it cannot take is counted, and told to the record when it
// reads.
func TestChaosJournald(t *testing.T) {
	shells := either(1, 30) // a socket holds a few records, the queue 8 MiB: more than 1000
	const children = 100
	d := newDaemon(t, ruleless+"notify: {per_user: 1000000}\n")
	d.env = []string{"INVOCATION_ID=0123456789abcdef0123456789abcdef", "JOURNAL_STREAM=1:2"}
	d.start()
	without := newPair(t, "without journald")
	without.killMain()
	d.wantLeakTold(without)

	j := newJournald(t)
	leave(t, shells, children)
	stalled := newPair(t, "with one that stalls")
	stalled.killMain()
	d.wantLeakTold(stalled)
	orphans := shells*children + 2
	d.await("all orphans are told on the stream", func() bool { return d.count(wire.TypeOrphan) >= orphans })
	if n := d.count(wire.TypeOrphan); n != orphans {
		t.Errorf("%d orphans were told on the stream, want %d", n, orphans)
	}
	if n := d.notices("dropped"); (n > 0) != *long {
		t.Errorf("%d records dropped", n)
	}

	go j.read()
	d.await("journald has all, or is told of it", func() bool {
		got, lost := j.counts()
		return got+lost >= orphans && lost == d.notices("dropped")
	})
	later := newPair(t, "with one that reads")
	later.killMain()
	d.wantLeakTold(later)
	d.await("a record of it", func() bool { got, lost := j.counts(); return got+lost > orphans })
	got, lost := j.counts()
	t.Logf("%d orphans, %d of them in records, %d records dropped", orphans, got, lost)
	d.wantComplete()
}

// wantLeakTold wants the pair's child told on the stream, as leaked by its parent. Of many
// orphans the list is long.
func (d *daemon) wantLeakTold(p *pair) {
	d.t.Helper()
	if o := d.orphan(p.child.pid); o.Verdict != wire.VerdictLeaked || o.Leaker == nil || o.Leaker.PID != p.parent() {
		d.t.Errorf("%s: %+v", p.name, o)
	}
}

// count is how many events of a type were told so far.
func (d *daemon) count(kind string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

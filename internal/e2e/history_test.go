// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// pastOf opens what the daemon has kept of a class.
func (d *daemon) pastOf(class history.Class) *history.View {
	d.t.Helper()
	archive, err := history.OpenArchive(filepath.Join(d.state(), "history"))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = archive.Close() })
	return archive.View(class)
}

// TestHistoryAcrossKills kills the daemon in the middle of a storm, again and again: the
// history has each life of the storm once, from its fork to its exit, and each leak.
func TestHistoryAcrossKills(t *testing.T) {
	d := newKept(t, ruleless)
	d.start()
	var mu sync.Mutex
	var pids []int32
	families := []*pair{}
	ends := []unix.Signal{unix.SIGKILL, unix.SIGKILL, unix.SIGTERM, unix.SIGKILL, 0}
	if *long {
		ends = append(slices.Repeat([]unix.Signal{unix.SIGKILL}, 50), ends...)
	}
	for _, how := range ends {
		var storm sync.WaitGroup
		begun := make(chan struct{}, 400)
		for range 2 {
			storm.Go(func() {
				for range cap(begun) / 2 {
					cmd := exec.Command("/bin/true")
					if err := cmd.Run(); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					pids = append(pids, int32(cmd.Process.Pid))
					mu.Unlock()
					begun <- struct{}{}
				}
			})
		}
		for range cap(begun)/4 + rand.IntN(cap(begun)/2) {
			<-begun
		}
		if how != 0 {
			d.endBy(how)
			d.start()
		}
		storm.Wait()
		f := newPair(t, how.String())
		f.killMain()
		d.reported(f)
		families = append(families, f)
	}
	var h wire.StatusHistory
	out, _ := wantRun(t, 0, "history", "--json", "--socket", d.socket())
	if err := json.Unmarshal([]byte(out), &h); err != nil || h.Epoch == "" || h.Stream.Since == nil || h.Stream.Bytes == 0 ||
		h.Notable.Since == nil || h.Lost+h.Damaged+h.SetAside != 0 || h.Error != "" {
		t.Errorf("%v: history %s", err, out)
	}
	out, _ = wantRun(t, 0, "history", "--socket", d.socket())
	wantText(t, out, "stream     since ", "notable    since ", "of 512 MiB, at most 14d", "lost       none")
	wantText(t, d.metrics(), "abot_trace_history_lost_total 0", `abot_trace_history_bytes{part="stream"}`)
	d.endBy(unix.SIGTERM)

	type life struct{ forks, execs, exits int }
	lives := make(map[event.ID]*life)
	player := &past.Player{}
	player.OnChange = func(changes []tracker.Change, _ uint64, asked bool) bool {
		if !asked {
			return true
		}
		for _, c := range changes {
			l := lives[c.ID]
			if l == nil {
				l = new(life)
				lives[c.ID] = l
			}
			switch c.Kind {
			case tracker.Forked:
				l.forks++
			case tracker.Execed:
				l.execs++
			case tracker.Exited:
				l.exits++
			}
		}
		return true
	}
	v := d.pastOf(history.Stream)
	if err := v.Play(history.Range{}, player); err != nil {
		t.Fatal(err)
	}
	if v.Missed != 0 || player.Skipped != 0 {
		t.Errorf("%d entries missed, %d skipped", v.Missed, player.Skipped)
	}
	byPID := make(map[int32][]life)
	for id, l := range lives {
		byPID[id.PID] = append(byPID[id.PID], *l)
	}
	bad := 0
	for _, pid := range pids {
		for _, l := range byPID[pid] {
			if l.forks > 1 || l.execs > 1 || l.exits > 1 {
				bad++
			}
		}
		if len(byPID[pid]) != 1 || byPID[pid][0] != (life{1, 1, 1}) {
			bad++
			if bad < 10 {
				t.Errorf("pid %d: %+v", pid, byPID[pid])
			}
		}
	}
	t.Logf("%d of %d lives are not whole", bad, len(pids))
	told := make(map[string]bool)
	last := uint64(0)
	err := d.pastOf(history.Notable).Lines(history.Range{}, func(_ *history.SegmentHead, l history.Line) bool {
		if l.Seq != last+1 {
			t.Errorf("notable event %d follows %d", l.Seq, last)
		}
		last = l.Seq
		told[string(l.JSON)] = true
		return true
	})
	if err != nil || len(told) < len(families) {
		t.Errorf("%v: %d notable events", err, len(told))
	}
}

// TestCursorFile has a reader with a cursor file killed at random moments, while leaks are
// made and the daemon is restarted: it has each notable event, in order, and no other twice than
// the last ones before it was killed.
func TestCursorFile(t *testing.T) {
	d := newKept(t, ruleless)
	d.start()
	file := filepath.Join(d.dir, "cursor")
	var got []uint64
	for round := range either(6, 100) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		reader := exec.Command(binary(), "events", "--follow", "--json", "--cursor-file", file, "--socket", d.socket())
		reader.Stdout, reader.Stderr = w, w
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		f := newPair(t, "reader")
		f.killMain()
		d.reported(f)
		if round == 2 {
			d.endBy(unix.SIGKILL)
			d.start()
		}
		lines := json.NewDecoder(r)
		for stay := 1 + rand.IntN(4); stay > 0; stay-- {
			var e wire.Event
			if err := lines.Decode(&e); err != nil {
				if round != 2 { // where the daemon went, and the reader with it
					t.Fatalf("round %d: %v", round, err)
				}
				break
			}
			got = append(got, e.NotableSeq)
		}
		_ = reader.Process.Kill()
		for { // what it had written before
			var e wire.Event
			if lines.Decode(&e) != nil {
				break
			}
			got = append(got, e.NotableSeq)
		}
		_ = reader.Wait()
		_ = r.Close()
	}
	next := uint64(1)
	for _, seq := range got {
		if seq > next {
			t.Fatalf("event %d follows %d: %v", seq, next-1, got)
		}
		next = max(next, seq+1)
	}
	if next < 2 {
		t.Errorf("nothing was read: %v", got)
	}
	out, _ := wantRun(t, 0, "events", "--json", "--cursor-file", file, "--socket", d.socket())
	for line := range strings.Lines(out) {
		var e wire.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.NotableSeq > next {
			t.Fatalf("%v: %s follows %d", err, line, next-1)
		}
		next = max(next, e.NotableSeq+1)
	}
	if next < 7 {
		t.Errorf("read up to %d only", next)
	}
	_, text := wantRun(t, 1, "events", "--cursor", "nonsense", "--socket", d.socket())
	wantText(t, text, "no cursor of notable events")
}

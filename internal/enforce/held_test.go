// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestHeld wants the pidfds of a request to be taken for what they were proven to be,
// and all to be closed.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	mine, other := w.startOwn("obey"), w.startOwn("obey")
	targets := []Target{{ID: w.id(mine)}, {ID: w.id(other)}}
	req := Request{Mode: wire.ModeObserve, Targets: targets, Held: Hold(targets)}
	if len(req.Held) != 2 {
		t.Fatalf("held: %+v", req.Held)
	}
	fds := []int{req.Held[0].Pidfd, req.Held[1].Pidfd}
	req.Keep(func(id event.ID) bool { return id.PID == mine })
	if len(req.Held) != 1 || req.Held[0].ID.PID != mine {
		t.Errorf("kept: %+v", req.Held)
	}
	e := Enforcer{Identity: failing{errors.New("not to be asked")}, Tree: w, Protector: w}
	k := e.Do(context.Background(), req)
	for i, want := range []string{wire.OutcomeWouldKill, wire.OutcomeRefused} {
		if got := k.Processes[i].Outcome; got != want {
			t.Errorf("%d: %s (%s), want %s", k.Processes[i].PID, got, k.Processes[i].Error, want)
		}
	}
	for _, fd := range fds {
		link, err := os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(fd)))
		if err == nil && link == "anon_inode:[pidfd]" {
			t.Errorf("%d is open still", fd)
		}
	}
}

// TestHeldUnused wants what a kill does not come to use to be closed, too.
func TestHeldUnused(t *testing.T) {
	w := newWorld(t)
	targets := []Target{{ID: w.id(w.startOwn("obey"))}}
	req := Request{Held: Hold(targets)}
	fd := req.Held[0].Pidfd
	e := Enforcer{Identity: w, Tree: w, Protector: w}
	e.Do(context.Background(), req)
	if err := pidfdSend(fd, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("open still: %v", err)
	}
}

// TestJournalCutShort wants a line that is not whole to be passed over: what it names
// was not stopped.
func TestJournalCutShort(t *testing.T) {
	dir := Dir(t.TempDir())
	first := []event.ID{{PID: 1 << 23, Start: 5}}
	if err := dir.Stopping("k", first); err != nil {
		t.Fatal(err)
	}
	if err := dir.Stopping("k", append(first, event.ID{PID: 1<<23 + 1, Start: 6})); err != nil {
		t.Fatal(err)
	}
	read := func() int {
		t.Helper()
		entry, err := readEntry(dir.path("k"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entry.Processes)
	}
	if n := read(); n != 2 {
		t.Errorf("%d processes, want 2", n)
	}
	whole, err := os.ReadFile(dir.path("k"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir.path("k"), whole[:len(whole)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	if n := read(); n != 1 {
		t.Errorf("%d processes, want 1", n)
	}
	if n, err := dir.Thaw(procfs.FS{}); n != 0 || err != nil {
		t.Errorf("thawed %d of nobody, %v", n, err)
	}
}

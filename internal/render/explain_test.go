// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestExplainDead proves that a dead orphan's age stands still, and that the rule that
// ended it is named.
func TestExplainDead(t *testing.T) {
	born, orphaned, died := now.Add(-time.Hour), now.Add(-40*time.Minute), now.Add(-30*time.Minute)
	x := &wire.Explain{
		Process: wire.Process{PID: 7, StartNS: 9, Comm: "sleep", User: "root", State: wire.StateDead, Lineage: wire.LineageObserved,
			StartedAt: &born, ExitedAt: &died, Exit: &wire.Exit{Signal: "SIGTERM"},
			Orphan: &wire.Orphan{Since: &orphaned, Direct: true, Verdict: wire.VerdictLeaked}},
		EndedBy: &wire.Kill{KillID: "k-1", Rule: "stale", Mode: "enforce", Outcome: wire.KillDone,
			Processes: []wire.Killed{{PID: 7, StartNS: 9, Outcome: wire.OutcomeDied}}},
	}
	var b bytes.Buffer
	if err := Explain(&b, x, now, Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"† SIGTERM, 30m ago", "was orphan (leaked) for 10m", "ended by rule stale (enforce): done: 1 died, k-1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got:\n%s\nwant it to say %q", b.String(), want)
		}
	}
}

// TestExplainHolds wants all told that a process holds, and what was not read, harmlessly.
func TestExplainHolds(t *testing.T) {
	bytesHeld := uint64(3 << 30)
	h := &wire.Holds{Ports: []wire.Port{{Proto: "tcp", Addr: "127.0.0.1", Port: 8000}, {Proto: "tcp6", Addr: "::", Port: 5173}},
		GPUs: []wire.GPU{{Device: "nvidia0"}, {Device: "renderD128", Bytes: &bytesHeld}}, DeletedBytes: 5 << 20, SharedBytes: 64 << 20,
		Locks: []wire.FileLock{{Type: "POSIX", Mode: "WRITE", Path: "/a\x1b[31m\n/db"}}, Unread: []string{"2 files of file systems that may hang"}}
	for range maxShownLocks {
		h.Locks = append(h.Locks, wire.FileLock{Type: "FLOCK", Mode: "READ", Path: "/x"})
	}
	var b bytes.Buffer
	x := &wire.Explain{Process: wire.Process{PID: 7, Comm: "node", State: wire.StateRunning}, Holds: h}
	if err := Explain(&b, x, now, Style{}); err != nil {
		t.Fatal(err)
	}
	leak := &wire.Leak{ID: "L1", State: wire.LeakStateOpen, Holds: h}
	if err := Leak(&b, leak, now, Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tcp 127.0.0.1:8000", "tcp6 [::]:5173", "device nvidia0", "device renderD128, 3 GiB of its memory",
		"5 MiB of deleted files", "64 MiB of shared memory", "lock POSIX write on /a", "1 locks more", "not read: 2 files of file systems that may hang"} {
		if strings.Count(b.String(), want) != 2 {
			t.Errorf("got:\n%s\nwant it to say %q twice", b.String(), want)
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("got an escape: %q", b.String())
	}
}

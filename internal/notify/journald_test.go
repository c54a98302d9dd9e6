// SPDX-License-Identifier: Apache-2.0

//go:build journald

package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// These tests talk to the journald of the machine that they run on, which may be
// stopped and restarted by them: run them in a container of their own, with
//
//	go test -tags journald ./internal/notify
//
// ABOT_TEST_JOURNALD_PID names journald where it is not systemd's.

// entries returns what journalctl has for a match, once there are n of them.
func entries(t *testing.T, n int, match ...string) []map[string]any {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		args := append([]string{"-o", "json", "--all", "--no-pager"}, match...)
		out, err := exec.Command("journalctl", args...).Output()
		if err != nil {
			t.Fatalf("journalctl: %v", err)
		}
		var got []map[string]any
		for line := range bytes.Lines(out) {
			var entry map[string]any
			if err := json.Unmarshal(line, &entry); err != nil {
				t.Fatal(err)
			}
			got = append(got, entry)
		}
		if len(got) >= n {
			return got
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d entries for %q, want %d", len(got), match, n)
		}
	}
}

// unique marks the records of one test run.
func unique() string { return fmt.Sprintf("run-%d-%d", os.Getpid(), time.Now().UnixNano()) }

// text returns the values of a field: one, or several where it occurs more often.
func text(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			out = append(out, text(item)...)
		}
		return out
	}
	return nil
}

func TestRealJournaldKeepsEveryField(t *testing.T) {
	j := NewJournal("")
	defer closeJournal(t, j)
	for _, kind := range wire.Types {
		e := full(kind)
		e.ID = unique()
		r := RecordOf(e)
		if !j.Send(r) {
			t.Fatal("dropped")
		}
		got := entries(t, 1, "MESSAGE_ID="+MessageIDs[kind], "ABOT_EVENT_ID="+e.ID)[0]
		want := map[string][]string{"MESSAGE": {r.Message}, "PRIORITY": {fmt.Sprint(r.Severity.priority())}, "SYSLOG_IDENTIFIER": {Identifier}}
		for _, f := range r.Fields {
			want[f.Name] = append(want[f.Name], f.Value)
		}
		for name, values := range want {
			have := text(got[name])
			slices.Sort(have)
			slices.Sort(values)
			if !slices.Equal(have, values) {
				t.Errorf("%s: %s = %q, want %q", kind, name, have, values)
			}
		}
	}
}

func TestRealJournaldTakesABigRecord(t *testing.T) {
	j := NewJournal("")
	defer closeJournal(t, j)
	id, big := unique(), strings.Repeat("b", 500<<10)
	j.Send(Record{Message: "big", Fields: []Field{{"ABOT_EVENT_ID", id}, {"ABOT_BIG", big}}})
	if got := text(entries(t, 1, "ABOT_EVENT_ID="+id)[0]["ABOT_BIG"]); len(got) != 1 || got[0] != big {
		t.Error("the big value did not arrive whole")
	}
}

// journald is stopped while more is sent than it, and we, can hold: sending goes on,
// and what was dropped is told when it runs again.
func TestRealJournaldStopped(t *testing.T) {
	pid := journaldPID(t)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGCONT)
	j := NewJournal("")
	id, accepted := unique(), 0
	for j.Dropped() < 5 {
		if j.Send(Record{Message: "while stopped", Fields: []Field{{"ABOT_EVENT_ID", id}}}) {
			accepted++
		}
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if got := len(entries(t, accepted, "ABOT_EVENT_ID="+id)); got != accepted {
		t.Errorf("%d entries, want %d", got, accepted)
	}
	told := 0
	for _, entry := range entries(t, 1, "MESSAGE_ID="+DroppedID, fmt.Sprintf("_PID=%d", os.Getpid())) {
		var part int
		if _, err := fmt.Sscan(text(entry["ABOT_LOST"])[0], &part); err != nil {
			t.Fatal(err)
		}
		told += part
	}
	if told != int(j.Dropped()) {
		t.Errorf("told %d dropped, want %d", told, j.Dropped())
	}
}

// The catalog is one that journalctl takes, entry by entry.
func TestRealCatalog(t *testing.T) {
	root := t.TempDir()
	text, err := os.ReadFile("../../deploy/systemd/abot-trace.catalog")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/usr/lib/systemd/catalog", "/var/lib/systemd/catalog"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root+"/usr/lib/systemd/catalog/abot-trace.catalog", text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("journalctl", "--root", root, "--update-catalog").CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("update: %v\n%s", err, out)
	}
	out, err := exec.Command("journalctl", "--root", root, "--list-catalog").CombinedOutput()
	if err != nil {
		t.Fatalf("list: %v\n%s", err, out)
	}
	for kind, id := range MessageIDs {
		if !strings.Contains(string(out), id+" abot-trace:") {
			t.Errorf("%s: %s is not listed in\n%s", kind, id, out)
		}
	}
}

func journaldPID(t *testing.T) int {
	t.Helper()
	var pid int
	text := os.Getenv("ABOT_TEST_JOURNALD_PID")
	if text == "" {
		out, err := exec.Command("systemctl", "show", "-P", "MainPID", "systemd-journald.service").Output()
		if err != nil {
			t.Fatal(err)
		}
		text = string(out)
	}
	if _, err := fmt.Sscan(text, &pid); err != nil || pid <= 1 {
		t.Fatalf("pid of journald %q: %v", text, err)
	}
	return pid
}

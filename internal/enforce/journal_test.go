// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestThaw kills a killer while its tree is stopped: the next start lets the tree
// continue.
func TestThaw(t *testing.T) {
	inNamespace(t, func(w *world) {
		dir := t.TempDir()
		w.start("tree", "2", "obey")
		victims := w.targets()
		killer, line := w.startSaying("frozen", dir)
		if line != "frozen" {
			t.Fatalf("the killer says %q", line)
		}
		if err := unix.Kill(int(killer), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.eventually("the killer is gone", func() bool { return w.state(killer) == 0 })
		for _, v := range victims {
			w.eventually("it is stopped", func() bool { return w.state(v.ID.PID) == 'T' })
		}
		thawed, err := Dir(dir).Thaw(w.fs)
		if thawed != 3 || err != nil {
			t.Errorf("got %d, %v, want 3", thawed, err)
		}
		for _, v := range victims {
			w.eventually("it runs", func() bool { return w.runs(v.ID.PID) })
		}
		if thawed, err := Dir(dir).Thaw(w.fs); thawed != 0 || err != nil {
			t.Errorf("once more: got %d, %v, want nothing", thawed, err)
		}
	})
}

// dieWhileFrozen stops everything but its parent and itself, and then waits for its
// end.
func dieWhileFrozen(args []string) error {
	w := newWorld(nil)
	w.spare(int32(os.Getppid()), errors.New("parent"))
	w.recheck = func(_ event.ID, sig unix.Signal) error {
		if sig != unix.SIGSTOP {
			fmt.Println("frozen")
			for {
				unix.Pause()
			}
		}
		return nil
	}
	e := Enforcer{Identity: w, Tree: w, Protector: w, Journal: Dir(args[0])}
	e.Do(context.Background(), Request{KillID: "k/1", Mode: wire.ModeEnforce, Scope: wire.ScopeTree})
	return errors.New("there was nothing to stop")
}

func TestThawOdd(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	st, err := procfs.FS{}.Stat(int32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text string
		thawed     int
		err        string
	}{
		{"ourselves", fmt.Sprintf(`{"boot_id":%q,"processes":[{"pid":%d,"start_ns":%d}]}`, boot, os.Getpid(), tickStart(st)), 1, ""},
		{"another owner of the pid", fmt.Sprintf(`{"boot_id":%q,"processes":[{"pid":%d,"start_ns":%d}]}`, boot, os.Getpid(), tickStart(st)+1e9), 0, ""},
		{"another boot", fmt.Sprintf(`{"boot_id":"x","processes":[{"pid":%d,"start_ns":%d}]}`, os.Getpid(), tickStart(st)), 0, ""},
		{"everybody", fmt.Sprintf(`{"boot_id":%q,"processes":[{"pid":-1,"start_ns":5}]}`, boot), 0, "journal names -1@5"},
		{"no start", fmt.Sprintf(`{"boot_id":%q,"processes":[{"pid":%d}]}`, boot, os.Getpid()), 0, "journal names "},
		{"not JSON", "{", 0, "unexpected end of JSON input"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "[odd]*")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "k.stopped"), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			thawed, err := Dir(dir).Thaw(procfs.FS{})
			if thawed != tt.thawed || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %d, %v, want %d, %q", thawed, err, tt.thawed, tt.err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// TestJournalPath: a kill's id cannot lead out of the directory.
func TestJournalPath(t *testing.T) {
	if got, want := Dir("/run/x").path("../7"), "/run/x/..%2F7.stopped"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

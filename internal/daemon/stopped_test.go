// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// TestThawTrustsOwnNotes: what another user could have written has root signal nobody,
// and has root write nowhere.
func TestThawTrustsOwnNotes(t *testing.T) {
	proctest.NeedRoot(t)
	sleeper := stoppedSleeper(t)
	run := filepath.Join(t.TempDir(), "run")
	planted, socket := filepath.Join(t.TempDir(), "planted"), filepath.Join(run, "s")
	if err := errors.Join(os.Mkdir(run, 0o755), os.Mkdir(planted, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := enforce.Dir(planted).Stopping("k1", []event.ID{sleeper}); err != nil {
		t.Fatal(err)
	}
	dir := stoppedDir(socket)
	for _, plant := range []struct {
		name string
		make func() error
	}{
		{"a link", func() error { return os.Symlink(planted, dir) }},
		{"a directory of another's", func() error {
			return errors.Join(os.Remove(dir), os.Rename(planted, dir), os.Chown(dir, 1000, 1000))
		}},
		{"a directory for all", func() error { return errors.Join(os.Chown(dir, 0, 0), os.Chmod(dir, 0o777)) }},
		{"below another's directory", func() error { return errors.Join(os.Chmod(dir, 0o700), os.Chown(run, 1000, 1000)) }},
	} {
		if err := plant.make(); err != nil {
			t.Fatal(err)
		}
		var refused *rootfile.UntrustedError
		if n, err := Thaw(socket); n != 0 || !errors.As(err, &refused) {
			t.Errorf("%s: %d thawed, %v", plant.name, n, err)
		}
		d := &daemon{Settings: Settings{Socket: socket}}
		if _, err := d.openStopped(); !errors.As(err, &refused) {
			t.Errorf("%s: the daemon took it: %v", plant.name, err)
		}
	}
	if s := stateOf(t, sleeper.PID); s != 'T' {
		t.Errorf("the sleeper is in state %c", s)
	}
	if err := os.Chown(run, 0, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := Thaw(socket); n != 1 || err != nil {
		t.Errorf("root's own: %d thawed, %v", n, err)
	}
	proctest.Eventually(t, "the sleeper goes on", func() bool { return stateOf(t, sleeper.PID) != 'T' })
}

// TestThawWaitsForNobody: a FIFO among the notes is an error, once.
func TestThawWaitsForNobody(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	dir := stoppedDir(socket)
	if err := errors.Join(os.Mkdir(dir, 0o700), unix.Mkfifo(filepath.Join(dir, "k.stopped"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Thaw(socket); err == nil {
		t.Error("no error")
	}
	if n, err := Thaw(socket); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

func stoppedSleeper(t *testing.T) event.ID {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pid := int32(cmd.Process.Pid)
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "the sleeper is stopped", func() bool { return stateOf(t, pid) == 'T' })
	p, err := procfs.FS{}.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return event.ID{PID: pid, Start: st.StartTicks * uint64(10*time.Millisecond)}
}

func stateOf(t *testing.T, pid int32) byte {
	t.Helper()
	state, _, err := procfs.FS{}.Condition(pid)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

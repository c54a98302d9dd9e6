// SPDX-License-Identifier: Apache-2.0

//go:build vm

package live

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// patience bounds every wait for a fact, in an emulated machine.
const patience = time.Minute

type daemon struct {
	t      *testing.T
	dir    string
	client *api.Client
	cmd    *exec.Cmd

	mu     sync.Mutex
	log    bytes.Buffer
	events []*wire.Event
}

// Write takes what the daemon logs.
func (d *daemon) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

// newDaemon prepares a daemon with a configuration, in which DIR is its directory.
func newDaemon(t *testing.T, config string) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(d.dir, "config.yaml"), []byte(strings.ReplaceAll(config, "DIR", d.dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Logf("the daemon's log:\n%s", &d.log)
		}
	})
	return d
}

// start starts it and follows what it tells, until it ends.
func (d *daemon) start(ctx context.Context) {
	d.t.Helper()
	at := func(name string) string { return filepath.Join(d.dir, name) }
	d.cmd = exec.Command("/bin/abot-trace", "daemon", "--config", at("config.yaml"), "--socket", at("socket"), "--state", at("state"), "--pins", "/sys/fs/bpf/clock")
	d.cmd.Stderr = d
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.client = api.NewClient(at("socket"))
	proctest.Eventually(d.t, "the daemon is ready", func() bool {
		s, err := d.client.Status(ctx)
		return err == nil && s.Events[wire.TypeResync] > 0
	})
	go func() {
		_ = d.client.Events(ctx, []string{wire.TypeOrphan, wire.TypeKill, wire.TypeAlert}, 0, true, func(e *wire.Event) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events = append(d.events, e)
			return nil
		})
	}()
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("daemon: %v", err)
	}
}

// leave leaves a process behind, whose parent was killed, and returns its pid when it is
// reported as leaked.
func (d *daemon) leave(command string) (pid int, since uint64) {
	d.t.Helper()
	said, say, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	stdin, keep, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { keep.Close() })
	parent := exec.Command("sh", "-c", command+" & echo $!; wait")
	parent.Stdin, parent.Stdout, parent.Stderr = stdin, say, say
	if err := parent.Start(); err != nil {
		d.t.Fatal(err)
	}
	say.Close()
	stdin.Close()
	if _, err := fmt.Fscan(said, &pid); err != nil {
		d.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	_ = parent.Process.Kill()
	_ = parent.Wait()
	d.t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	e := d.event(fmt.Sprintf("%s is reported", command), func(e *wire.Event) bool {
		return e.Type == wire.TypeOrphan && int(e.Process.PID) == pid
	})
	if e.Process.Orphan.Verdict != wire.VerdictLeaked {
		d.t.Fatalf("%s: %+v", command, e.Process.Orphan)
	}
	return pid, e.Process.Orphan.SinceNS
}

func (d *daemon) find(pick func(*wire.Event) bool) *wire.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if pick(e) {
			return e
		}
	}
	return nil
}

func (d *daemon) event(what string, pick func(*wire.Event) bool) (e *wire.Event) {
	d.t.Helper()
	proctest.Eventually(d.t, what, func() bool {
		e = d.find(pick)
		return e != nil
	})
	return e
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

const gunicornApp = `def app(environ, start_response):
    start_response("200 OK", [])
    return []
`

// TestWhoAsked ends programs of five kinds that handle SIGTERM: each event of it names the
// sender, its command line and its spawner, and so does the exit.
func TestWhoAsked(t *testing.T) {
	d := startDaemon(t, resting)
	heard := listen(t, d, wire.TypeCaught, wire.TypeExit)
	for _, c := range []struct {
		name string
		args []string // $D is a directory, in which the program makes the file "ready"
	}{
		{"python", []string{"python3", "-c", `
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open(os.environ["D"] + "/ready", "w")
while True: signal.pause()`}},
		{"node", []string{"node", "-e", `
process.on("SIGTERM", () => process.exit(0));
require("fs").writeFileSync(process.env.D + "/ready", "");
setInterval(() => {}, 1000);`}},
		{"go", []string{binary(), "events", "--json", "--follow", "--socket", d.socket()}},
		{"bash", []string{"bash", "-c", `trap "exit 0" TERM; : >$D/ready; while :; do read -t 0.1 <>/dev/zero; done`}},
		{"gunicorn", []string{"gunicorn", "--chdir", "$D", "--bind", "unix:$D/ready", "--worker-tmp-dir", "$D", "app:app"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(gunicornApp), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range c.args {
				if c.name == "gunicorn" {
					c.args[i] = os.Expand(c.args[i], func(string) string { return dir })
				}
			}
			cmd := exec.Command(c.args[0], c.args[1:]...)
			cmd.Env = append(os.Environ(), "D="+dir)
			ready := filepath.Join(dir, "ready")
			if c.name == "go" {
				out, err := os.Create(ready)
				if err != nil {
					t.Fatal(err)
				}
				defer out.Close()
				cmd.Stdout = out // its first line comes when it handles signals
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			proctest.Eventually(t, c.name+" handles SIGTERM", func() bool {
				info, err := os.Stat(ready)
				return err == nil && (c.name != "go" || info.Size() > 0)
			})
			pid := cmd.Process.Pid
			kill := exec.Command("sh", "-c", "kill "+strconv.Itoa(pid)+"; :")
			if out, err := kill.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			line := []string{"sh", "-c", "kill " + strconv.Itoa(pid) + "; :"}
			caught := heard.await(t, wire.TypeCaught, pid)
			if s := caught.Caught; s == nil || s.Signal != "SIGTERM" || s.Sender == nil || !slices.Equal(s.Sender.Cmdline, line) ||
				len(s.Sender.Ancestors) == 0 || int(s.Sender.Ancestors[0].PID) != os.Getpid() {
				t.Errorf("caught: %+v", caught.Caught)
			}
			exit := heard.await(t, wire.TypeExit, pid).Process.Exit
			if exit == nil || exit.AskedBy == nil {
				t.Fatalf("exit: %+v", exit)
			}
			if a := exit.AskedBy; a.Signal != "SIGTERM" || int(a.PID) != kill.Process.Pid || !slices.Equal(a.Cmdline, line) {
				t.Errorf("asked by %+v", a)
			}
		})
	}
}

// heard are the events that a listener was told of.
type heard struct {
	mu     sync.Mutex
	events []*wire.Event
}

// listen takes the events of those types from now on until the test ends.
func listen(t *testing.T, d *daemon, types ...string) *heard {
	t.Helper()
	h := new(heard)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.client.Events(ctx, types, 0, true, func(e *wire.Event) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	proctest.Eventually(t, "it is listened to", func() bool {
		sleep := exec.Command("true")
		if err := sleep.Run(); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.events) > 0
	})
	return h
}

// await returns the first event of that type of the process.
func (h *heard) await(t *testing.T, kind string, pid int) (found *wire.Event) {
	t.Helper()
	proctest.Eventually(t, kind+" of "+strconv.Itoa(pid), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range h.events {
			if e.Type == kind && e.Process != nil && int(e.Process.PID) == pid {
				found = e
			}
		}
		return found != nil
	})
	return found
}

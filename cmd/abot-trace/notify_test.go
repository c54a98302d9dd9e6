// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// command runs this test binary as the program.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "abot-trace")
	if err := os.Symlink(exe, name); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), name, args...)
}

// notify-test reaches journald, webhooks and commands with each kind, once.
func TestNotifyTestReachesEveryTarget(t *testing.T) {
	dir := t.TempDir()
	journal, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "journal"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	var mu sync.Mutex
	posted := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notify.Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err == nil {
			mu.Lock()
			posted[n.Event.Type]++
			mu.Unlock()
		}
	}))
	defer server.Close()
	// Root's commands run as nobody.
	open, err := os.MkdirTemp("", "abot-trace-hook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(open) })
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(open, "ran")
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("notify:\n  webhook: [{url: %q, min_severity: critical}]\n  exec: [{command: [/bin/sh, -c, 'echo $ABOT_EVENT >>%s']}]\n", server.URL, ran)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	recorded := make(chan string, 1)
	go func() { recorded <- records(journal, len(wire.Types)) }()

	out, err := command(t, "notify-test", "--config", config, "--journal-socket", filepath.Join(dir, "journal")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := <-recorded
	executed, err := os.ReadFile(ran)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range wire.Types {
		if posted[kind] != 1 || strings.Count("\n"+string(executed), "\n"+kind+"\n") != 1 || !strings.Contains(all, notify.MessageIDs[kind]) {
			t.Errorf("%s: posted %d times, executed %q, recorded %v", kind, posted[kind], executed, strings.Contains(all, notify.MessageIDs[kind]))
		}
	}
	for _, target := range []string{"journald", "webhook[0]", "exec[0]"} {
		if want := fmt.Sprintf("%s: %d of %d delivered\n", target, len(wire.Types), len(wire.Types)); !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

// records returns the next n records as they came.
func records(journal *net.UnixConn, n int) string {
	var all strings.Builder
	buf := make([]byte, 64<<10)
	_ = journal.SetReadDeadline(time.Now().Add(time.Minute))
	for range n {
		size, err := journal.Read(buf)
		if err != nil {
			return all.String()
		}
		all.Write(buf[:size])
	}
	return all.String()
}

func TestNotifyTestTellsFailure(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte("notify:\n  exec: [{command: [/bin/false]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "notify-test", "--config", config, "--journal-socket", filepath.Join(dir, "absent"), "--wait", "5s")
	// Below the usual priority, which the helper may not raise.
	nice := exec.Command("nice", append([]string{"-n", "5", cmd.Path}, cmd.Args[1:]...)...)
	nice.Env = cmd.Env
	out, err := nice.CombinedOutput()
	if err == nil {
		t.Fatalf("no failure:\n%s", out)
	}
	for _, want := range []string{fmt.Sprintf("journald: 0 of %d delivered", len(wire.Types)), fmt.Sprintf("exec[0]: 0 of %d delivered; exit status 1", len(wire.Types)), fmt.Sprintf("%d notices did not arrive", 2*len(wire.Types))} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

// The helper on a socket serves one connection after the other.
func TestNotifyHelperListens(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	// A helper that was killed leaves its socket behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	helper := command(t, "notify-helper", "--socket", socket)
	helper.Stderr = os.Stderr
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = helper.Process.Signal(os.Interrupt)
		if err := helper.Wait(); err != nil {
			t.Errorf("helper ended with %v", err)
		}
	}()
	dialSoon(t, socket).Close() // ends without settings, which harms nobody
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket %v, %v, want mode 0660", info.Mode(), err)
	}
	for range 2 {
		conn := dialSoon(t, socket)
		settings := notify.Settings{Exec: []notify.Exec{{Name: "exec[0]", User: strconv.Itoa(os.Getuid()), Command: []string{"/bin/true"}}}}
		enc := json.NewEncoder(conn)
		for _, line := range []notify.Line{{Settings: &settings}, {Notice: &notify.Notice{Event: wire.Event{Type: wire.TypeLost}}}} {
			if err := enc.Encode(line); err != nil {
				t.Fatal(err)
			}
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		var last notify.Report
		for dec := json.NewDecoder(conn); dec.Decode(&last) == nil; {
		}
		if last.Handled != 1 || last.Targets["exec[0]"].Delivered != 1 {
			t.Errorf("last report %+v", last)
		}
		conn.Close()
	}
}

// The daemon looks for the helper where its unit has it listen.
func TestHelperSocketIsTheUnits(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/systemd/abot-trace-notify.socket")
	if err != nil {
		t.Fatal(err)
	}
	if want := "ListenStream=" + notify.HelperSocket + "\n"; !strings.Contains(string(unit), want) {
		t.Errorf("the unit lacks %q", want)
	}
}

// dialSoon connects as soon as the socket is there.
func dialSoon(t *testing.T, socket string) *net.UnixConn {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
		if err == nil {
			return conn
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

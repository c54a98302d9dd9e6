// SPDX-License-Identifier: Apache-2.0

package proctest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A Daemon is one that runs for a test.
type Daemon struct {
	Socket string
	PID    int
}

// StartDaemon builds the command whose folder is given and starts its daemon, without
// rules, until the end of the test.
func StartDaemon(t testing.TB, command string) Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "abot-trace-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config, socket := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "socket")
	text := fmt.Sprintf("budget: {warm_up: 0s, kills_per_minute: 100000, respawn: 0s, stop_file: %s/stop}\n", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "abot-trace")
	build := exec.Command("go", "build", "-o", binary, command)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	daemon := exec.Command(binary, "daemon", "--config", config, "--socket", socket)
	daemon.Env = append(os.Environ(), "ABOT_TRACE_NO_SYSTEMD=1")
	var log strings.Builder
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(unix.SIGTERM)
		if err := daemon.Wait(); err != nil {
			t.Errorf("daemon: %v", err)
		}
		for line := range strings.Lines(log.String()) {
			if t.Failed() && strings.Contains(line, "lease") {
				t.Log(line)
			}
		}
	})
	Eventually(t, "the daemon answers", func() bool {
		return exec.Command(binary, "tree", "1", "--socket", socket).Run() == nil
	})
	return Daemon{socket, daemon.Process.Pid}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestStoppedDaemon has a socket held by who takes no connection, as a daemon that is stopped:
// every command gives up, says what it waited for, and exits as one that could not look. None
// takes that daemon for gone.
func TestStoppedDaemon(t *testing.T) {
	socket, config := filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "config.yaml")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// However busy the host is, nothing else is to be told.
	quiet := "monitor: {memory: off, cpu: off, disk: off, process_memory: off}\nrules: []\n"
	if err := os.WriteFile(config, []byte(quiet), 0o600); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	defer work.Wait()
	for _, test := range []struct {
		command string
		code    int
		says    string
	}{
		{"monitor", 3, "waited 10s for GET /v1/orphans"},
		{"orphans", 1, "waited 10s for GET /v1/orphans"},
		{"tree", 1, "waited 10s for GET /v1/tree"},
		{"events", 1, "waited 10s for GET /v1/events"},
		{"cleanup", 1, "waited 10s for POST /v1/cleanup"},
		{"doctor", 1, "waited 5s for GET /v1/status"},
		{"supervise", 125, "waited 1s for POST /v1/lease"},
	} {
		args := []string{test.command, "--socket", socket}
		switch test.command {
		case "monitor":
			args = append(args, "--config", config)
		case "supervise":
			args = append(args, "--", "true")
		}
		work.Add(1)
		go func() {
			defer work.Done()
			cmd := exec.Command("abot-trace", args...) // TestMain has put it into the path
			out, err := cmd.CombinedOutput()
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				t.Error(err)
				return
			}
			code, text := cmd.ProcessState.ExitCode(), string(out)
			if code != test.code || !strings.Contains(text, test.says) {
				t.Errorf("%s: exit %d, want %d and %q:\n%s", test.command, code, test.code, test.says, text)
			}
		}()
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestExplainIsPaged: an explanation that is longer than the terminal comes through the pager,
// whole; a short one, and --no-pager, do not start it.
func TestExplainIsPaged(t *testing.T) {
	rules := make([]string, 40)
	for i := range rules {
		rules[i] = fmt.Sprintf(`{"name":"rule%d","applies":false,"why":"it is no orphan"}`, i)
	}
	const process = `{"process":{"pid":7,"start_ns":1,"comm":"x","state":"running","lineage":"observed"},"evidence":[],"rules":[%s]}`
	for _, test := range []struct {
		name, answer string
		args         []string
		first, last  string // of what the pager gets; empty where it is not started
	}{
		{"long", fmt.Sprintf(process, strings.Join(rules, ",")), nil, "7 x", "rule39"},
		{"short", fmt.Sprintf(process, rules[0]), nil, "", ""},
		{"no pager", fmt.Sprintf(process, strings.Join(rules, ",")), []string{"--no-pager"}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := serveHostile(t, http.StatusOK, test.answer)
			paged := filepath.Join(d.dir, "paged")
			d.runOnTerminal(t, "tee "+paged, append([]string{"explain", "7", "--color", "never"}, test.args...)...)
			got, err := os.ReadFile(paged)
			switch {
			case test.last == "" && !os.IsNotExist(err):
				t.Errorf("the pager was started: %v: %q", err, got)
			case test.last != "" && (!strings.Contains(string(got), test.first) || !strings.Contains(string(got), test.last)):
				t.Errorf("the pager got %q, %v; want %q to %q", got, err, test.first, test.last)
			}
		})
	}
}

// runOnTerminal runs a command to its good end, with standard output at a terminal of 24 rows.
func (d *hostileDaemon) runOnTerminal(t *testing.T, pager string, args ...string) {
	t.Helper()
	master, slave := proctest.OpenPTY(t)
	defer master.Close()
	defer slave.Close()
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "abot-trace", append(args, "--socket", d.socket)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "ABOT_TRACE_PAGER="+pager)
	cmd.Stdout = slave
	var said strings.Builder
	cmd.Stderr = &said
	drained := make(chan struct{})
	go func() { // or who writes to the terminal waits
		defer close(drained)
		buf := make([]byte, 4096)
		for {
			if _, err := master.Read(buf); err != nil {
				return
			}
		}
	}()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	slave.Close()
	<-drained // the last of its other ends is closed
}

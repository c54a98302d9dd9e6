// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os/exec"
	"testing"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/slowread"
)

// TestUnreadable wants a process that lets nobody read its environment to be kept by nothing,
// however often it is looked at, to take one thread, and others to be read as ever.
func TestUnreadable(t *testing.T) {
	s := &supervisor{Config: Config{Report: t.Logf}, unread: map[identity]bool{}, reads: slowread.Reads{Each: 1}}
	blocked, err := descend.Read(proctest.Unreadable(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if why := s.whyKeep(blocked); why != "" {
			t.Errorf("kept: %s", why)
		}
	}
	if n := s.reads.Stuck(); n != 1 {
		t.Errorf("%d reads are stuck", n)
	}
	cmd := exec.Command("sleep", "100")
	cmd.Env = []string{keepMark}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	proctest.Eventually(t, "the mark is read", func() bool {
		p, err := descend.Read(cmd.Process.Pid)
		return err == nil && s.whyKeep(p) == keepMark
	})
}

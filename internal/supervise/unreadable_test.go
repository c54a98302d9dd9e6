// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/slowread"
)

// unreadable returns a supervisor of this process's descendants, what it says, and so many of
// them that let nobody read them.
func unreadable(t *testing.T, n int) (s *supervisor, said *strings.Builder, blocked []descend.Proc) {
	t.Helper()
	said = &strings.Builder{}
	s = &supervisor{Config: Config{Argv: []string{"cmd"}, Report: func(format string, args ...any) { fmt.Fprintf(said, format+"\n", args...) }},
		self: os.Getpid(), unread: map[identity]bool{}, asked: map[identity]*answer{}, reads: slowread.Reads{Each: 1}}
	for range n {
		p, err := descend.Read(proctest.Unreadable(t))
		if err != nil {
			t.Fatal(err)
		}
		blocked = append(blocked, p)
	}
	return s, said, blocked
}

// TestUnreadable wants a process that lets nobody read its environment to be kept by nothing,
// however often it is looked at, to take one thread, to be told of once, and others to be read
// as ever.
func TestUnreadable(t *testing.T) {
	s, said, blocked := unreadable(t, 1)
	for range 10 {
		if why := s.whyKeep(blocked[0]); why != "" {
			t.Errorf("kept: %s", why)
		}
	}
	if args := s.arguments(blocked[0]); len(args) != 0 {
		t.Errorf("its arguments are %q", args)
	}
	if l := s.leftover(blocked[0]); len(l.Cmdline) != 0 {
		t.Errorf("as a leftover: %+v", l)
	}
	if n := s.reads.Stuck(); n != 1 {
		t.Errorf("%d reads are stuck", n)
	}
	want := fmt.Sprintf("not known whether %s is to be kept, so it is not: its environment could not be read within 500ms\n", describe(blocked[0]))
	if said.String() != want {
		t.Errorf("said %q, want %q", said, want)
	}
	cmd := exec.Command("sleep", "100")
	cmd.Env = []string{keepMark}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	proctest.Eventually(t, "the mark is read", func() bool {
		clear(s.asked)
		p, err := descend.Read(cmd.Process.Pid)
		return err == nil && s.whyKeep(p) == keepMark
	})
}

// TestManyUnreadable wants all of them asked while the first is waited for: they cost the time
// of one.
func TestManyUnreadable(t *testing.T) {
	s, _, blocked := unreadable(t, 3)
	if _, err := s.environ(blocked[0]); err == nil {
		t.Fatal("it was read")
	}
	for _, p := range blocked[1:] {
		if a := s.asked[identity{p.PID, p.Start}]; a == nil {
			t.Errorf("%s was not asked", describe(p))
		}
	}
}

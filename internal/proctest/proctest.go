// SPDX-License-Identifier: Apache-2.0

// Package proctest is the kit of tests on real processes: what they need, how they wait for
// a fact, how they see and end whatever they leave behind. Only tests import it.
package proctest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
)

// Patience is the deadline for what must happen, on a slow and busy machine.
const Patience = 2 * time.Minute

// Adopt makes the test process a child subreaper: what its children leave behind
// becomes its own child.
func Adopt() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// Descendants returns the living processes below the test.
func Descendants(t testing.TB) []descend.Proc {
	t.Helper()
	procs, err := descend.List(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return procs
}

// EndDescendants kills and reaps whatever is left below the test process. It reaps
// every child: call it when nothing is waited for any more.
func EndDescendants(t testing.TB) {
	t.Helper()
	Eventually(t, "the test's descendants end", func() bool {
		procs := Descendants(t)
		for _, p := range procs {
			_ = descend.Signal(p, unix.SIGKILL)
		}
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid == 0 {
				return len(procs) == 0
			}
		}
	})
}

// Eventually polls for a fact that announces itself by no event.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		}
	}
}

// Need skips a test that cannot run here for the reason given, if any; in CI it fails it.
func Need(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("CI must run this test: %v", err)
	}
	t.Skip(err)
}

// NeedRoot is Need for root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Need(t, errors.New("needs root"))
	}
}

// NeedProgram is Need for a program that is installed.
func NeedProgram(t testing.TB, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	Need(t, err)
}

// OpenPTY returns both ends of a new pseudo-terminal. The caller closes them.
func OpenPTY(t testing.TB) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// SPDX-License-Identifier: Apache-2.0

package proctest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
)

//go:embed unreadable.py
var unreadable []byte

// Unreadable starts a process whose environment and arguments nobody can read: who tries
// waits until it ends, which it does with the test. It skips where nobody can mount, and not
// in CI.
func Unreadable(t testing.TB) (pid int) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); (err != nil || os.Geteuid() != 0) && os.Getenv("CI") == "" {
		t.Skip("needs root and /dev/fuse")
	}
	cmd := exec.Command("python3", UnreadableScript(t))
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // its own group, with the server
		_ = cmd.Wait()
	})
	var server int
	if _, err := fmt.Fscanf(out, "server %d\nready %d\n", &server, &pid); err != nil {
		t.Fatalf("it is not ready: %v", err)
	}
	Eventually(t, "it blocks", func() bool { return Blocked(pid) })
	return pid
}

// UnreadableScript writes the program that python3 runs as root to become such a process, of
// the user whose id is its argument, if any. It says "server PID" and "ready PID" right before it blocks, which
// ends with the server.
func UnreadableScript(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "unreadable.py")
	if err := os.WriteFile(path, unreadable, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Blocked reports whether the process sleeps where no signal ends that.
func Blocked(pid int) bool {
	p, err := descend.Read(pid)
	return err == nil && p.State == 'D'
}

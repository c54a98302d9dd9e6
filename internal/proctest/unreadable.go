// SPDX-License-Identifier: Apache-2.0

package proctest

import (
	"bufio"
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
	script := filepath.Join(t.TempDir(), "unreadable.py")
	if err := os.WriteFile(script, unreadable, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", script)
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
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(line, "ready %d", &pid); err != nil {
		t.Fatalf("it says %q: %v", line, err)
	}
	Eventually(t, "it blocks", func() bool {
		p, err := descend.Read(pid)
		return err == nil && p.State == 'D'
	})
	return pid
}

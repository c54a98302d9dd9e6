// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"os/exec"
	"testing"
)

// TestFailedAndAbandoned has a program fail and leave a child with whom only it spoke: that
// shows when the kernel has closed the other ends, and is reason enough to end it.
func TestFailedAndAbandoned(t *testing.T) {
	startDaemon(t, armed)
	cmd := exec.Command("python3", "-c", `
import subprocess, sys
p = subprocess.Popen(["sleep", "300"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
print(p.pid, flush=True)
sys.exit(1)`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	leaf := hold(t, pid)
	t.Cleanup(leaf.end)
	if cmd.Wait() == nil {
		t.Fatal("it did not fail")
	}
	leaf.mustDie()
}

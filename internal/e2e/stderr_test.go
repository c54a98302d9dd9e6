// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestUnreadStandardError: a daemon whose lines nobody reads, as in many a container, goes
// on to see, to tell and to end.
func TestUnreadStandardError(t *testing.T) {
	unread, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(stderr.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	d := newDaemon(t, armed)
	d.stderr = stderr
	d.start()
	stderr.Close()
	// Each orphan and each kill is a line of more than a hundred bytes.
	leaks := func(n int) {
		for i := range n {
			f := startFamily(t, "parent", "leaf", fmt.Sprintf("child-%d", i))
			child := f.await(fmt.Sprintf("child-%d", i), 1)[0]
			f.killMain()
			child.mustDie()
			d.kill(child.pid, outcomeIs(wire.KillDone))
		}
	}
	leaks(40)
	if _, err := d.client.Orphans(t.Context()); err != nil {
		t.Error(err)
	}
	fds := []unix.PollFd{{Fd: int32(unread.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); n != 1 {
		t.Errorf("the daemon has written nothing: %v", err)
	}
	unread.Close() // its reader has died
	leaks(2)
}

// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestUsersAreReadBeside has the file of names become one that does not answer: the names
// that are known stand, and nobody waits.
func TestUsersAreReadBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte("alice:x:1000:1000::/:/bin/sh\nalias:x:1000:1::/:/bin/sh\nbad\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	u := newUsers(path)
	if got := u.name(1000, now) + " " + u.name(1001, now); got != "alice 1001" {
		t.Errorf("got %s", got)
	}
	if err := os.WriteFile(path, []byte("bob:x:1000:1000::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * usersFor)
	proctest.Eventually(t, "the new name is known", func() bool { return u.name(1000, now) == "bob" })

	proctest.Eventually(t, "nobody reads", func() bool { return !u.asking.Load() })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 100 { // of which one reads, and waits for a writer
		now = now.Add(2 * usersFor)
		if got := u.name(1000, now); got != "bob" {
			t.Fatalf("got %s", got)
		}
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	writer.Close()
	proctest.Eventually(t, "it ends", func() bool { return !u.asking.Load() })
}

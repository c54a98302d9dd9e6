// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStopFile(t *testing.T) {
	s := stopFile{lstat: os.Lstat}
	path := filepath.Join(t.TempDir(), "stop")
	if why := s.hold(path); why != "" {
		t.Errorf("there is none: %s", why)
	}
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if why := s.hold(path); why != "the stop file "+path+" exists" {
		t.Errorf("a link that leads nowhere is one: %q", why)
	}
	s.lstat = func(string) (os.FileInfo, error) { return nil, unix.EACCES }
	if why := s.hold(path); !strings.Contains(why, "may exist: permission denied") {
		t.Errorf("what cannot be looked at may be one: %q", why)
	}
}

// TestStopFileHangs: nothing is ended while its file system does not answer, nobody waits
// for it a second time, and no more than one look hangs.
func TestStopFileHangs(t *testing.T) {
	release := make(chan struct{})
	looks := 0
	s := stopFile{lstat: func(string) (os.FileInfo, error) {
		looks++
		<-release
		return nil, os.ErrNotExist
	}}
	for range 1000 {
		if why := s.hold("/mnt/gone/stop"); why != "the stop file /mnt/gone/stop may exist: its file system does not answer" {
			t.Fatalf("it does not answer: %q", why)
		}
	}
	close(release)
	if err := <-s.pending; !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if looks != 1 {
		t.Errorf("%d looks", looks)
	}
	s.pending = nil
	if why := s.hold("/mnt/gone/stop"); why != "" {
		t.Errorf("it answers again: %q", why)
	}
}

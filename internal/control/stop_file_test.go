// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStopFile(t *testing.T) {
	s := stopFile{lstat: os.Lstat}
	path := filepath.Join(t.TempDir(), "stop")
	if s.exists(path) {
		t.Error("there is none")
	}
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if !s.exists(path) {
		t.Error("a link that leads nowhere is one")
	}
	s.lstat = func(string) (os.FileInfo, error) { return nil, unix.EACCES }
	if !s.exists(path) {
		t.Error("what cannot be looked at may be one")
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
		if !s.exists("/mnt/gone/stop") {
			t.Fatal("it does not answer, and kills go on")
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
	if s.exists("/mnt/gone/stop") {
		t.Error("it answers again")
	}
}

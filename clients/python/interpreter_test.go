// SPDX-License-Identifier: Apache-2.0

package python_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/test/debian"
)

// TestMain makes the test adopt, and so see, what the programs leave behind.
func TestMain(m *testing.M) {
	if err := proctest.Adopt(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// An interpreter runs Python here, or in the root file system of a Debian release.
type interpreter struct {
	name string
	argv []string
	root *debian.Layer // nil here
}

// inside is where a file of this folder is for the interpreter.
func (in interpreter) inside(file string) string {
	if in.root != nil {
		return filepath.Join("/opt/abot-trace", file)
	}
	here, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return filepath.Join(here, file)
}

// interpreters returns the system's and, with -all, those of the Debian releases that
// the module is for.
func interpreters(t *testing.T) []interpreter {
	t.Helper()
	proctest.NeedRoot(t)
	proctest.NeedProgram(t, "python3")
	// Not one that a version manager puts first: the system's is what packages serve.
	list := []interpreter{{name: "system", argv: []string{"/usr/bin/python3"}}}
	if !*all {
		return list
	}
	for _, release := range []string{"bullseye", "bookworm", "trixie"} {
		list = append(list, inRelease(t, release))
	}
	return list
}

// inRelease lays a root file system of the release, with this folder in it.
func inRelease(t *testing.T, release string) interpreter {
	t.Helper()
	cache, err := debian.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	base, err := debian.RootOf(context.Background(), cache, release, "python3", func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	layer, err := debian.NewLayer(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := layer.Remove(); err != nil {
			t.Error(err)
		}
	})
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, mount := range [][2]string{{"/proc", "/proc"}, {"/dev", "/dev"}, {"/dev/shm", "/dev/shm"}, {"/run", "/run"}, {here, "/opt/abot-trace"}} {
		bind(t, mount[0], layer.Path(mount[1]))
	}
	return interpreter{release, []string{"chroot", layer.Path(""), "/usr/bin/python3"}, layer}
}

func bind(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("bind %s on %s: %v", from, to, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(to, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", to, err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

func mustOpen(t *testing.T, path, layout string) *Dir {
	t.Helper()
	d, err := Open(path, layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestSaveLoad(t *testing.T) {
	d := mustOpen(t, filepath.Join(t.TempDir(), "new", "dir"), "1")
	if s, err := d.Load(); s != nil || err != nil {
		t.Errorf("before the first save: %v, %v", s, err)
	}
	for _, want := range []Sections{
		{"tree": []byte("first"), "empty": nil},
		{"tree": bytes.Repeat([]byte{7}, 1<<20), "leases": []byte("x")},
		{},
	} {
		if err := d.Save(want); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("%d sections, want %d", len(got), len(want))
		}
		for name := range want {
			if !bytes.Equal(got[name], want[name]) {
				t.Errorf("section %s differs", name)
			}
		}
	}
	info, err := os.Stat(filepath.Join(d.Path(), fileName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if _, err := os.Stat(filepath.Join(d.Path(), fileName+".new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", fileName+".new", err)
	}
}

// TestAside sets aside whatever cannot be used, and says why, once.
func TestAside(t *testing.T) {
	tests := []struct {
		name   string
		damage func(b []byte) []byte
		layout string
		want   error
	}{
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }, "1", ErrCorrupt},
		{"empty", func([]byte) []byte { return nil }, "1", ErrCorrupt},
		{"one bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "1", ErrCorrupt},
		{"longer", func(b []byte) []byte { return append(b, 0) }, "1", ErrCorrupt},
		{"another layout", func(b []byte) []byte { return b }, "2", ErrForeign},
		{"another boot", func([]byte) []byte {
			b, err := encode("another", "1", Sections{"tree": []byte("x")})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, "1", ErrForeign},
		{"too large", func([]byte) []byte { return make([]byte, MaxBytes+1) }, "1", ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := t.TempDir()
			d := mustOpen(t, path, "1")
			if err := d.Save(Sections{"tree": []byte("some")}); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(d.Path(), fileName))
			if err != nil {
				t.Fatal(err)
			}
			damaged := test.damage(b)
			if err := os.WriteFile(filepath.Join(d.Path(), fileName), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			d.layout = test.layout
			if s, err := d.Load(); s != nil || !errors.Is(err, test.want) {
				t.Errorf("got %v, %v; want %v", s, err, test.want)
			}
			if s, err := d.Load(); s != nil || err != nil {
				t.Errorf("again: %v, %v; want nothing", s, err)
			}
			names, err := d.aside(fileName + asideMark)
			if err != nil || len(names) != 1 {
				t.Fatalf("set aside: %v, %v", names, err)
			}
			if kept, err := os.ReadFile(filepath.Join(d.Path(), names[0])); err != nil || !bytes.Equal(kept, damaged) {
				t.Errorf("what was set aside differs (%v)", err)
			}
		})
	}
}

func TestAsideIsBounded(t *testing.T) {
	d, err := Open(t.TempDir(), "1")
	if err != nil {
		t.Fatal(err)
	}
	for range maxAside + 3 {
		if err := os.WriteFile(filepath.Join(d.Path(), fileName), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Load(); !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	}
	names, err := d.aside(fileName + asideMark)
	if err != nil || len(names) != maxAside {
		t.Errorf("%v, %v; want %d", names, err, maxAside)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := Forget(d.Path()); n != maxAside || err != nil {
		t.Fatalf("forgot %d, %v", n, err)
	}
	entries, err := os.ReadDir(d.Path())
	if err != nil || len(entries) != 0 {
		t.Errorf("after Forget: %v, %v", entries, err)
	}
}

// TestSaveFails leaves the state that was there alone.
func TestSaveFails(t *testing.T) {
	d := mustOpen(t, t.TempDir(), "1")
	want := Sections{"tree": []byte("good")}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(Sections{"tree": make([]byte, MaxBytes)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	// A directory in the way of the new file fails for root, too.
	if err := os.Mkdir(filepath.Join(d.Path(), fileName+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(Sections{"tree": []byte("bad")}); err == nil || !strings.Contains(err.Error(), fileName+".new") {
		t.Errorf("in the way: %v", err)
	}
	if got, err := d.Load(); err != nil || !bytes.Equal(got["tree"], want["tree"]) {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestDiskFull leaves the state that was there alone, and no half of a new one.
func TestDiskFull(t *testing.T) {
	proctest.NeedRoot(t)
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := mustOpen(t, disk, "1")
	want := []byte("good")
	if err := d.Save(Sections{"tree": want}); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(Sections{"tree": make([]byte, 1<<20)}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want %v", err, unix.ENOSPC)
	}
	if _, err := os.Stat(filepath.Join(d.Path(), fileName+".new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s still fills the disk: %v", fileName+".new", err)
	}
	if got, err := d.Load(); err != nil || !bytes.Equal(got["tree"], want) {
		t.Errorf("got %v, %v", got, err)
	}

	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(Sections{"tree": want}); !errors.Is(err, unix.EROFS) {
		t.Errorf("got %v, want %v", err, unix.EROFS)
	}
	if got, err := d.Load(); err != nil || !bytes.Equal(got["tree"], want) {
		t.Errorf("read only: got %v, %v", got, err)
	}
}

func TestSecondIsRefused(t *testing.T) {
	path := t.TempDir()
	mustOpen(t, path, "1")
	var busy *dirlock.BusyError
	if _, err := Open(path, "1"); !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Errorf("got %v, want a BusyError with pid %d", err, os.Getpid())
	}
}

func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Sections(rapid.MapOfN(rapid.StringN(0, 20, maxWord), rapid.SliceOf(rapid.Byte()), 0, maxSection).Draw(t, "sections"))
		b, err := encode("boot", "layout", want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b, "boot", "layout")
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(map[string][]byte(want), map[string][]byte(got)); diff != "" {
			t.Errorf("it differs:\n%s", diff)
		}
	})
}

// FuzzDecode gives any bytes a right checksum, so that what is behind it is tried.
func FuzzDecode(f *testing.F) {
	b, err := encode("boot", "layout", Sections{"tree": []byte("x"), "leases": nil})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[len(magic) : len(b)-sha256.Size])
	f.Fuzz(func(t *testing.T, body []byte) {
		b := append([]byte(magic), body...)
		sum := sha256.Sum256(b)
		s, err := decode(append(b, sum[:]...), "boot", "layout")
		if (s == nil) == (err == nil) {
			t.Errorf("got %v and %v", s, err)
		}
		if _, err := decode(body, "boot", "layout"); err == nil {
			t.Error("accepted without a checksum")
		}
	})
}

// TestUntrustedDirectory: whoever can write the state says what the daemon knows.
func TestUntrustedDirectory(t *testing.T) {
	proctest.NeedRoot(t)
	for _, test := range []struct {
		name  string
		spoil func(path string) error
	}{
		{"another user's", func(path string) error { return os.Chown(path, 1000, 1000) }},
		{"writable by all", func(path string) error { return os.Chmod(path, 0o777) }},
		{"writable by a group", func(path string) error { return os.Chmod(path, 0o770) }},
		{"a link", func(path string) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		}},
		{"below another user's", func(path string) error { return os.Chown(filepath.Dir(path), 1000, 1000) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "above", "state")
			if err := mustOpen(t, path, "1").Save(Sections{"tree": []byte("x")}); err != nil {
				t.Fatal(err)
			}
			if err := test.spoil(path); err != nil {
				t.Fatal(err)
			}
			var refused *rootfile.UntrustedError
			if _, err := Open(path, "1"); !errors.As(err, &refused) {
				t.Errorf("got %v, want it refused", err)
			}
		})
	}
}

// TestUntrustedFile: what is no file of ours is set aside, and nothing waits for it.
func TestUntrustedFile(t *testing.T) {
	d := mustOpen(t, t.TempDir(), "1")
	path := filepath.Join(d.Path(), fileName)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, plant := range []func(string) error{
		func(path string) error { return unix.Mkfifo(path, 0o600) },
		func(path string) error { return os.Symlink(outside, path) },
		func(path string) error { return os.Mkdir(path, 0o700) },
		func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o666)) },
	} {
		if err := errors.Join(plant(path), plant(path+".new")); err != nil {
			t.Fatal(err)
		}
		var refused *rootfile.UntrustedError
		if s, err := d.Load(); s != nil || !errors.As(err, &refused) {
			t.Errorf("got %v, %v; want it refused", s, err)
		}
		_ = unix.Rmdir(path + ".new") // a directory is in the way, and told
		if err := d.Save(Sections{"tree": []byte("x")}); err != nil {
			t.Error(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "untouched" {
		t.Errorf("outside: %q, %v", b, err)
	}
}

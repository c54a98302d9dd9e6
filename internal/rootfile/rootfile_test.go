// SPDX-License-Identifier: Apache-2.0

package rootfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

const stranger = 1000

// place is a directory with a file in it, both root's.
func place(t *testing.T) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "dir")
	file = filepath.Join(dir, "file")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, []byte("text"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// TestRules: who may own and write what is opened. The test is root, so that both rules
// want root's files, and differ in the last link.
func TestRules(t *testing.T) {
	proctest.NeedRoot(t)
	tests := []struct {
		name      string
		make      func(dir, file string) error
		root, own string // what the refusal says; empty is none
	}{
		{"root's", func(string, string) error { return nil }, "", ""},
		{"file of a stranger", func(_, file string) error { return os.Chown(file, stranger, 0) },
			"the file belongs to uid 1000", "the file belongs to uid 1000"},
		{"file for a group", func(_, file string) error { return os.Chmod(file, 0o664) },
			"(mode 0664): chmod go-w", "(mode 0664): chmod go-w"},
		{"directory of a stranger", func(dir, _ string) error { return os.Chown(dir, stranger, 0) },
			"its directory", "its directory"},
		{"directory for all", func(dir, _ string) error { return os.Chmod(dir, 0o777) },
			"(mode 0777)", "(mode 0777)"},
		{"sticky directory for all", func(dir, _ string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }, "", ""},
		{"directory above of a stranger", func(dir, _ string) error { return os.Chown(filepath.Dir(dir), stranger, 0) },
			"its directory", "its directory"},
		{"link of root", func(dir, file string) error {
			return errors.Join(os.Rename(file, file+".1"), os.Symlink("../dir/file.1", file))
		}, "", "is a symbolic link"},
		{"link of a stranger", func(dir, file string) error {
			return errors.Join(os.Rename(file, file+".1"), os.Symlink(file+".1", file), os.Lchown(file, stranger, 0))
		}, "the link", "is a symbolic link"},
		{"directory by a link of root", func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".1"), os.Symlink(dir+".1", dir))
		}, "", ""},
		{"directory by a link of a stranger", func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".1"), os.Symlink(dir+".1", dir), os.Lchown(dir, stranger, 0))
		}, "the link", "the link"},
		{"link to itself", func(dir, file string) error {
			return errors.Join(os.Remove(file), os.Rename(dir, dir+".1"), os.Symlink(dir, dir))
		}, "too many levels", "too many levels"},
		{"fifo", func(_, file string) error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o644)) },
			"is not a regular file", "is not a regular file"},
		{"device", func(_, file string) error {
			return errors.Join(os.Remove(file), unix.Mknod(file, unix.S_IFCHR|0o600, 1<<8|5))
		},
			"is not a regular file", "is not a regular file"},
		{"directory", func(_, file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) },
			"is a directory", "is a directory"},
		{"missing", func(_, file string) error { return os.Remove(file) }, "no such file", "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, file := place(t)
			if err := tt.make(dir, file); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				rule Rule
				want string
			}{{Root, tt.root}, {Own, tt.own}} {
				f, err := c.rule.Open(file)
				if c.want == "" {
					if err != nil {
						t.Errorf("%+v: %v", c.rule, err)
						continue
					}
					if b, err := io.ReadAll(f); string(b) != "text" {
						t.Errorf("%+v: read %q, %v", c.rule, b, err)
					}
					f.Close()
				} else if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%+v: got %v, want %q", c.rule, err, c.want)
				}
				if got, want := errors.Is(err, fs.ErrNotExist), tt.name == "missing"; got != want {
					t.Errorf("%+v: is fs.ErrNotExist: %v", c.rule, got)
				}
			}
		})
	}
}

// TestOwnOfAnotherUser: what is the user's own is trusted by that user alone.
func TestOwnOfAnotherUser(t *testing.T) {
	proctest.NeedRoot(t)
	for _, rule := range []Rule{Root, Own} {
		var st unix.Stat_t
		st.Uid = uint32(os.Geteuid())
		if err := rule.judge("the file", "/x", &st); err != nil {
			t.Errorf("%+v: root's: %v", rule, err)
		}
	}
	as(t, stranger, func() {
		if err := Own.owner("the file", "/x", stranger); err != nil {
			t.Errorf("own: %v", err)
		}
		if err := Root.owner("the file", "/x", stranger); err == nil {
			t.Error("the rule of root takes the user's")
		}
		if err := Own.owner("the file", "/x", stranger+1); err == nil ||
			!strings.Contains(err.Error(), "not to root or uid 1000") {
			t.Errorf("another's: %v", err)
		}
	})
}

// as runs fn with another effective user id, on all threads.
func as(t *testing.T, uid int, fn func()) {
	t.Helper()
	if err := unix.Setreuid(-1, uid); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setreuid(-1, 0); err != nil {
			t.Fatal(err)
		}
	}()
	fn()
}

// TestDirStaysWhereItWas: names are looked up in the directory that was judged.
func TestDirStaysWhereItWas(t *testing.T) {
	dir, _ := place(t)
	d, err := Own.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	elsewhere := t.TempDir()
	if err := errors.Join(os.Rename(dir, dir+".1"), os.Symlink(elsewhere, dir)); err != nil {
		t.Fatal(err)
	}
	if err := d.Replace("file", []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir + ".1/file")
	if string(b) != "new" {
		t.Errorf("read %q, %v", b, err)
	}
	if names, err := os.ReadDir(elsewhere); len(names) != 0 {
		t.Errorf("elsewhere: %v, %v", names, err)
	}
	if names, err := d.Names(); len(names) != 1 || names[0] != "file" {
		t.Errorf("names: %q, %v", names, err)
	}
	if info, err := os.Stat(dir + ".1/file"); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	for _, bad := range []string{"", ".", "..", "a/b", "../x", "/x"} {
		if _, err := d.Create(bad, 0o600); err == nil {
			t.Errorf("made %q", bad)
		}
		if err := d.Remove(bad); err == nil {
			t.Errorf("removed %q", bad)
		}
	}
}

// TestDirFollowsNoLink: whatever was planted, nothing outside is written or read.
func TestDirFollowsNoLink(t *testing.T) {
	dir, _ := place(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "link.new", "created"} {
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Own.ForeignDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Open("link"); err == nil {
		t.Error("opened a link")
	}
	if _, err := d.Create("created", 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created by a link: %v", err)
	}
	if err := d.Replace("link", []byte("new"), 0o644); err != nil {
		t.Error(err)
	}
	if mode, err := d.Mode("link"); err != nil || !mode.IsRegular() {
		t.Errorf("what took the link's place: %v, %v", mode, err)
	}
	info, err := os.Stat(outside)
	if b, _ := os.ReadFile(outside); err != nil || string(b) != "untouched" || info.Mode() != 0o600 {
		t.Errorf("outside: %q, %v, %v", b, info.Mode(), err)
	}
}

// TestMakeDir makes what is missing, and nothing through a stranger's link.
func TestMakeDir(t *testing.T) {
	proctest.NeedRoot(t)
	dir, _ := place(t)
	d, err := Own.MakeDir(filepath.Join(dir, "a", "b"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if info, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("made %v, %v", info, err)
	}
	link, target := filepath.Join(dir, "link"), t.TempDir()
	if err := errors.Join(os.Symlink(target, link), os.Lchown(link, stranger, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := Own.MakeDir(filepath.Join(link, "made"), 0o700); err == nil {
		t.Error("made a directory through a stranger's link")
	}
	if _, err := os.Lstat(filepath.Join(target, "made")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is there: %v", err)
	}
}

// TestSwapped has a stranger swap file and link as fast as he can: what is read is
// root's file or nothing.
func TestSwapped(t *testing.T) {
	dir, file := place(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), os.Symlink(secret, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE)
		}
	}()
	opened, refused := 0, 0
	for range 5000 {
		f, err := Own.Open(file)
		if err != nil {
			refused++
			continue
		}
		opened++
		if b, _ := io.ReadAll(f); string(b) != "text" {
			t.Errorf("read %q", b)
		}
		f.Close()
	}
	stop.Store(true)
	<-done
	t.Logf("%d opened, %d refused", opened, refused)
}

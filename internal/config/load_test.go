// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// write puts files into a new directory and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDropIns: maps merge by key, lists append, names decide the order.
func TestDropIns(t *testing.T) {
	dir := write(t, map[string]string{
		"config.yaml":           "rules: [{name: one}, {name: two}]\nbudget: {pause: 1s, kills_per_minute: 2}\nprotect: {users: [a]}\n",
		"conf.d/20-last.yaml":   "budget: {pause: 3s}\nenforce: [three]\n",
		"conf.d/10-first.yaml":  "budget: {pause: 2s, warm_up: 4s}\nrules: [{name: three}]\nenforce: [one]\nprotect: {users: [b]}\n",
		"conf.d/30-masked.yaml": "# nothing\n",
		"conf.d/.hidden.yaml":   "nonsense",
		"conf.d/readme.txt":     "nonsense",
	})
	c, err := Load(filepath.Join(dir, "config.yaml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.BudgetSpec(); got.Pause.Seconds() != 3 || got.WarmUp.Seconds() != 4 || got.KillsPerMinute != 2 {
		t.Errorf("budget: got %+v", got)
	}
	rules, protect := c.Policy()
	var modes []string
	for _, r := range rules {
		modes = append(modes, r.Name+" "+r.Mode)
	}
	if want := []string{"one enforce", "two ", "three enforce"}; !slices.Equal(modes, want) {
		t.Errorf("rules: got %q, want %q", modes, want)
	}
	if want := []string{"a", "b"}; !slices.Equal(protect.Users, want) {
		t.Errorf("protect: got %q, want %q", protect.Users, want)
	}
	if len(c.Files) != 4 {
		t.Errorf("files: got %q, want 4", c.Files)
	}
}

// fakeFS serves files with an owner and a mode of the test's choice, so that the
// tests mean the same for root and for others.
type fakeFS map[string]file

func (f fakeFS) open(path string) (file, error) {
	found, ok := f[path]
	switch {
	case !ok:
		return file{}, &fs.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	case found.ReadCloser == nil:
		found.ReadCloser = io.NopCloser(strings.NewReader(""))
	}
	return found, nil
}

// TestRefusedFiles: files that are refused for what they are and not for what they
// say, each with its exact message.
func TestRefusedFiles(t *testing.T) {
	text := func(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	const rules = "rules: []\n"
	dirMode := fs.ModeDir | 0o755
	tests := []struct {
		name string
		file file
		dir  file
		open error
	}{
		{name: "empty", file: file{text(""), 0o644, 0}},
		{name: "ten-megabytes", file: file{io.NopCloser(bytes.NewReader(bytes.Repeat([]byte("# padding\n"), 1<<20))), 0o644, 0}},
		{name: "too-many-lines", file: file{text(strings.Repeat("a: b\n", maxLines+1)), 0o644, 0}},
		{name: "directory", file: file{nil, dirMode, 0}},
		{name: "fifo", file: file{nil, fs.ModeNamedPipe | 0o644, 0}},
		{name: "world-writable", file: file{text(rules), 0o646, 0}},
		{name: "group-writable", file: file{text(rules), 0o664, 0}},
		{name: "not-roots", file: file{text(rules), 0o644, 1000}},
		{name: "directory-world-writable", file: file{text(rules), 0o644, 0}, dir: file{nil, fs.ModeDir | 0o777, 0}},
		{name: "directory-not-roots", file: file{text(rules), 0o644, 0}, dir: file{nil, dirMode, 1000}},
		{name: "unreadable", open: &fs.PathError{Op: "open", Err: unix.EACCES}},
		{name: "missing", open: &fs.PathError{Op: "open", Err: unix.ENOENT}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(write(t, map[string]string{"config.yaml": "resolved by name only"}))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "config.yaml")
			if tt.dir.mode == 0 {
				tt.dir.mode = dirMode
			}
			fake := fakeFS{path: tt.file, dir: tt.dir}
			for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
				fake[parent] = file{nil, dirMode, 0}
				if parent == filepath.Dir(parent) {
					break
				}
			}
			open := fake.open
			if tt.open != nil {
				open = func(string) (file, error) { return file{}, tt.open }
			}
			_, err = loader{open}.load(path, Options{Trusted: true})
			if err == nil {
				t.Fatal("accepted")
			}
			golden(t, "refused/"+tt.name+".golden", strings.ReplaceAll(err.Error(), dir, "/etc/abot-trace")+"\n")
			if errors.Is(err, fs.ErrNotExist) != (tt.name == "missing") {
				t.Errorf("is fs.ErrNotExist: %v", errors.Is(err, fs.ErrNotExist))
			}
			var faults Errors
			if !errors.As(err, &faults) || faults[0].File() != path {
				t.Errorf("%#v does not name the file", err)
			}
		})
	}
}

// TestTrustOfDropIns: one bad drop-in spoils a good file, and whoever only checks
// need not care.
func TestTrustOfDropIns(t *testing.T) {
	dir, err := filepath.EvalSymlinks(write(t, map[string]string{"config.yaml": "", "conf.d/arm.yaml": ""}))
	if err != nil {
		t.Fatal(err)
	}
	main, dropIn := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "conf.d", "arm.yaml")
	open := func(path string) (file, error) {
		f := file{io.NopCloser(strings.NewReader("rules: []\n")), 0o644, 0}
		switch path {
		case main:
		case dropIn:
			f.uid = 1000
		default:
			f.mode = fs.ModeDir | fs.ModeSticky | 0o777
		}
		return f, nil
	}
	_, err = loader{open}.load(main, Options{Trusted: true})
	if err == nil || !strings.Contains(err.Error(), "arm.yaml: the file belongs to uid 1000, not to root") {
		t.Errorf("got %v, want the drop-in refused", err)
	}
	if _, err := (loader{open}).load(main, Options{}); err != nil {
		t.Errorf("untrusted: %v", err)
	}
}

// TestOpenFile is the real look at the file system.
func TestOpenFile(t *testing.T) {
	dir := write(t, map[string]string{"config.yaml": "rules: []\n"})
	f, err := openFile(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f.uid != uint32(os.Geteuid()) || f.mode.Perm() != 0o644 {
		t.Errorf("got uid %d, mode %v", f.uid, f.mode)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(fifo, Options{}); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("fifo: got %v", err)
	}
	if _, err := Load(dir, Options{}); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: got %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none.yaml"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
}

// TestTrustForReal: the owner and the mode are the open file's own. Root's file is
// refused for its mode, another's for its owner too.
func TestTrustForReal(t *testing.T) {
	path := filepath.Join(write(t, map[string]string{"config.yaml": "rules: []\n"}), "config.yaml")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	want := "can be written by others than root (mode 0666)"
	if os.Geteuid() != 0 {
		want = "not to root"
	}
	if _, err := Load(path, Options{Trusted: true}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if _, err := Load(path, Options{}); err != nil {
		t.Errorf("untrusted: %v", err)
	}
}

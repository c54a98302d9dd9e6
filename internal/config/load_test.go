// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
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

// TestRefusedFiles: files that are refused for what they are and not for what they
// say, each with its exact message.
func TestRefusedFiles(t *testing.T) {
	proctest.NeedRoot(t)
	const rules = "rules: []\n"
	tests := []struct {
		name string
		text string
		make func(dir, path string) error // changes a good file
		open error
	}{
		{name: "empty"},
		{name: "ten-megabytes", text: strings.Repeat("# padding\n", 1<<20)},
		{name: "too-many-lines", text: strings.Repeat("a: b\n", maxLines+1)},
		{name: "directory", make: func(_, path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) }},
		{name: "fifo", make: func(_, path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o644)) }},
		{name: "world-writable", text: rules, make: func(_, path string) error { return os.Chmod(path, 0o646) }},
		{name: "group-writable", text: rules, make: func(_, path string) error { return os.Chmod(path, 0o664) }},
		{name: "not-roots", text: rules, make: func(_, path string) error { return os.Chown(path, 1000, 0) }},
		{name: "directory-world-writable", text: rules, make: func(dir, _ string) error { return os.Chmod(dir, 0o777) }},
		{name: "directory-not-roots", text: rules, make: func(dir, _ string) error { return os.Chown(dir, 1000, 0) }},
		{name: "unreadable", open: &fs.PathError{Op: "open", Err: unix.EACCES}},
		{name: "missing", make: func(_, path string) error { return os.Remove(path) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(write(t, map[string]string{"config.yaml": tt.text}))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "config.yaml")
			if tt.make != nil {
				if err := tt.make(dir, path); err != nil {
					t.Fatal(err)
				}
			}
			l := loader{Options{Trusted: true}.opener()}
			if tt.open != nil {
				l.open = func(string) (io.ReadCloser, error) { return nil, tt.open }
			}
			_, err = l.load(path)
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
	proctest.NeedRoot(t)
	dir := write(t, map[string]string{"config.yaml": "rules: []\n", "conf.d/arm.yaml": "rules: []\n"})
	path := filepath.Join(dir, "config.yaml")
	if _, err := Load(path, Options{Trusted: true}); err != nil {
		t.Errorf("root's: %v", err)
	}
	if err := os.Chown(filepath.Join(dir, "conf.d", "arm.yaml"), 1000, 0); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path, Options{Trusted: true})
	if err == nil || !strings.Contains(err.Error(), "arm.yaml: the file belongs to uid 1000, not to root") {
		t.Errorf("got %v, want the drop-in refused", err)
	}
	if _, err := Load(path, Options{}); err != nil {
		t.Errorf("untrusted: %v", err)
	}
}

// TestOpenFile is the look at the file system of whoever need not care.
func TestOpenFile(t *testing.T) {
	dir := write(t, map[string]string{"config.yaml": "rules: []\n"})
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

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options say how much a file is trusted.
type Options struct {
	// Trusted refuses files that others than root could have written, or could
	// replace. Whoever may signal processes sets it; a mere check need not.
	Trusted bool
}

// Load reads the file at path and then conf.d/*.yaml beside it in the order of their
// names, merges and checks them. Its error is an [Errors] that lists every fault; a
// missing file is also fs.ErrNotExist.
func Load(path string, o Options) (*Config, error) { return loader{open: openFile}.load(path, o) }

// Parse reads one configuration from text; name stands for it in errors.
func Parse(name string, data []byte) (*Config, error) {
	c, r := Default(), &report{}
	c.merge(name, data, true, r)
	return c.finish(r)
}

// loader is Load with its look at the file system replaceable.
type loader struct {
	open func(path string) (file, error)
}

// file is an open file or directory and who may write it.
type file struct {
	io.ReadCloser
	mode fs.FileMode
	uid  uint32
}

// openFile opens path without ever waiting for a FIFO's writer.
func openFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return file{}, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return file{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		f.Close()
		return file{}, fmt.Errorf("stat %s: no owner", path)
	}
	return file{f, info.Mode(), stat.Uid}, nil
}

func (l loader) load(path string, o Options) (*Config, error) {
	c, r := Default(), &report{}
	if err := l.add(c, path, o, true, r); err != nil {
		return nil, err
	}
	dir := filepath.Join(filepath.Dir(path), "conf.d")
	paths, err := dropIns(dir)
	if err != nil {
		return nil, plainError(dir, err)
	}
	for _, dropIn := range paths {
		if err := l.add(c, dropIn, o, false, r); err != nil {
			return nil, err
		}
	}
	return c.finish(r)
}

// dropIns lists the files of a directory that end in .yaml, by name.
func dropIns(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".yaml") && !strings.HasPrefix(name, ".") {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths, nil
}

// add reads one file into c.
func (l loader) add(c *Config, path string, o Options, main bool, r *report) error {
	f, err := l.open(path)
	if err != nil {
		return plainError(path, err)
	}
	defer f.Close()
	switch {
	case f.mode.IsDir():
		return plainError(path, errors.New("is a directory"))
	case !f.mode.IsRegular():
		return plainError(path, errors.New("is not a regular file"))
	}
	if o.Trusted {
		if err := l.trust(path, f); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return plainError(path, err)
	}
	c.merge(path, data, main, r)
	return nil
}

// trust refuses a file that others than root can write, and one in a directory where
// they could replace it. Every directory on the way counts: who can rename one of
// them can put another in its place. A sticky directory protects what root owns.
func (l loader) trust(path string, f file) error {
	if err := trusted("the file", path, f.mode, f.uid); err != nil {
		return plainError(path, err)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		resolved, err = filepath.Abs(resolved)
	}
	if err != nil {
		return plainError(path, err)
	}
	for dir := filepath.Dir(resolved); ; dir = filepath.Dir(dir) {
		d, err := l.open(dir)
		if err != nil {
			return plainError(path, err)
		}
		d.Close()
		if err := trusted("its directory "+dir, dir, d.mode, d.uid); err != nil {
			return plainError(path, err)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// trusted judges one owner and mode. The hint is a command that mends it.
func trusted(what, path string, mode fs.FileMode, uid uint32) error {
	switch {
	case uid != 0:
		return fmt.Errorf("%s belongs to uid %d, not to root: chown root %s", what, uid, path)
	case mode.Perm()&0o022 != 0 && !(mode.IsDir() && mode&fs.ModeSticky != 0):
		return fmt.Errorf("%s can be written by others than root (mode %04o): chmod go-w %s", what, mode.Perm(), path)
	}
	return nil
}

// fileError is an [Errors] of one fault that concerns a whole file, and keeps its cause.
type fileError struct {
	Errors
	cause error
}

// Unwrap returns the faults and the cause.
func (e *fileError) Unwrap() []error { return []error{e.Errors, e.cause} }

// plainError says what is wrong with a file without repeating its name.
func plainError(path string, err error) error {
	var at *fs.PathError
	message := err.Error()
	if errors.As(err, &at) {
		message = at.Err.Error()
	}
	return &fileError{Errors{&Error{Pos{src: newSource(path, nil)}, message}}, err}
}

// merge decodes one file's text over c.
func (c *Config) merge(name string, data []byte, main bool, r *report) {
	c.Files = append(c.Files, name)
	// What ends a line for the parser ends one for the excerpts too.
	data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	src := newSource(name, data)
	faults := len(r.errs)
	body := parseDocument(src, data, r)
	if body == nil {
		// An interrupted write leaves an empty file. Taking it for a configuration
		// would quietly drop every rule. A drop-in may be empty: that masks one.
		if main && len(r.errs) == faults {
			r.add(Pos{src: src}, "the file sets nothing: write \"rules: []\" to run without rules")
		}
		return
	}
	d := &decoder{src, r}
	d.decode(body, reflect.ValueOf(c).Elem(), "")
}

// finish checks the merged configuration.
func (c *Config) finish(r *report) (*Config, error) {
	if err := r.err(); err != nil {
		return nil, err
	}
	c.validate(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

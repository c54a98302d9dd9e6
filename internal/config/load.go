// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rootfile"
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
func Load(path string, o Options) (*Config, error) { return loader{o.opener()}.load(path) }

// Parse reads one configuration from text; name stands for it in errors.
func Parse(name string, data []byte) (*Config, error) {
	c, r := Default(), &report{}
	c.merge(name, data, true, r)
	return c.finish(r)
}

// loader is Load with its look at the file system replaceable.
type loader struct {
	open func(path string) (io.ReadCloser, error)
}

// opener is how files are opened: by root's rule, or as anyone would.
func (o Options) opener() func(path string) (io.ReadCloser, error) {
	if o.Trusted {
		return func(path string) (io.ReadCloser, error) { return rootfile.Root.Open(path) }
	}
	return openFile
}

// openFile opens a regular file, without ever waiting for a FIFO's writer.
func openFile(path string) (io.ReadCloser, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = errors.New("is a directory")
	case !info.Mode().IsRegular():
		err = errors.New("is not a regular file")
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

func (l loader) load(path string) (*Config, error) {
	c, r := Default(), &report{}
	if err := l.add(c, path, true, r); err != nil {
		return nil, err
	}
	dir := filepath.Join(filepath.Dir(path), "conf.d")
	paths, err := dropIns(dir)
	if err != nil {
		return nil, plainError(dir, err)
	}
	for _, dropIn := range paths {
		if err := l.add(c, dropIn, false, r); err != nil {
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
func (l loader) add(c *Config, path string, main bool, r *report) error {
	f, err := l.open(path)
	if err != nil {
		return plainError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return plainError(path, err)
	}
	c.merge(path, data, main, r)
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
	var refused *rootfile.UntrustedError
	message := err.Error()
	switch {
	case errors.As(err, &at):
		message = at.Err.Error()
	case errors.As(err, &refused):
		message = refused.Reason
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
	c.off = c.override(r)
	c.validate(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

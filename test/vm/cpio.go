// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// cpioWriter writes the "newc" format, as the kernel unpacks it
// (Documentation/driver-api/early-userspace/buffer-format.rst). Every parent folder
// must be written before what it holds.
type cpioWriter struct {
	w     *bufio.Writer
	inode int
	dirs  map[string]bool
	err   error
}

func newCPIO(w io.Writer) *cpioWriter {
	return &cpioWriter{w: bufio.NewWriterSize(w, 1<<20), dirs: map[string]bool{".": true, "/": true}}
}

const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioLink = 0o120000
	cpioChar = 0o020000
)

// header writes an entry's header and name. size bytes and their padding follow.
func (c *cpioWriter) header(name string, mode uint32, size int64, major, minor int) {
	if c.err != nil {
		return
	}
	c.inode++
	_, c.err = fmt.Fprintf(c.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, len(name)+1, 0)
	c.bytes(name + "\x00")
	c.pad(110 + int64(len(name)) + 1)
}

func (c *cpioWriter) bytes(s string) {
	if c.err == nil {
		_, c.err = c.w.WriteString(s)
	}
}

// pad fills up to a multiple of four after n bytes.
func (c *cpioWriter) pad(n int64) { c.bytes("\x00\x00\x00"[:(4-n%4)%4]) }

func (c *cpioWriter) dir(name string) {
	name = filepath.Clean(name)
	if c.dirs[name] {
		return
	}
	c.dir(filepath.Dir(name))
	c.dirs[name] = true
	c.header(name, cpioDir|0o755, 0, 0, 0)
}

func (c *cpioWriter) text(name, content string, mode uint32) {
	c.dir(filepath.Dir(name))
	c.header(name, cpioFile|mode, int64(len(content)), 0, 0)
	c.bytes(content)
	c.pad(int64(len(content)))
}

func (c *cpioWriter) link(name, target string) {
	c.dir(filepath.Dir(name))
	c.header(name, cpioLink|0o777, int64(len(target)), 0, 0)
	c.bytes(target)
	c.pad(int64(len(target)))
}

func (c *cpioWriter) char(name string, major, minor int) {
	c.dir(filepath.Dir(name))
	c.header(name, cpioChar|0o666, 0, major, minor)
}

// file adds a copy of the file at path.
func (c *cpioWriter) file(name, path string, mode uint32) {
	c.dir(filepath.Dir(name))
	if c.err != nil {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		c.err = err
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		c.err = err
		return
	}
	c.header(name, cpioFile|mode, info.Size(), 0, 0)
	if c.err == nil {
		_, c.err = io.CopyN(c.w, f, info.Size())
	}
	c.pad(info.Size())
}

// tree adds the files below path; that there is no such folder is fine.
func (c *cpioWriter) tree(name, path string) {
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(path, p)
		if err == nil {
			c.file(filepath.Join(name, rel), p, 0o644)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) && c.err == nil {
		c.err = err
	}
}

func (c *cpioWriter) close() error {
	c.header("TRAILER!!!", 0, 0, 0, 0)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}

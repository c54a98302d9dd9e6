// SPDX-License-Identifier: Apache-2.0

package rootfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Dir is a directory that is held open: whatever becomes of its path, names are
// looked up in it and nowhere else. Its names have no slash. No method follows a link.
// It may be used by several goroutines. Close it.
type Dir struct {
	f    *os.File
	rule Rule
}

// Path is where the directory was when it was opened.
func (d *Dir) Path() string { return d.f.Name() }

// Shared reports whether others than its owner could replace what is in the directory.
func (d *Dir) Shared() (bool, error) {
	st, err := stat(d.f)
	if err != nil {
		return false, err
	}
	return openToOthers(st), nil
}

// Close lets the directory go.
func (d *Dir) Close() error { return d.f.Close() }

// Open opens a regular file of the directory for reading, as [Rule.Open] does.
func (d *Dir) Open(name string) (*os.File, error) {
	if err := plain(name); err != nil {
		return nil, err
	}
	return d.rule.open(d.f, name, filepath.Join(d.Path(), name))
}

// Create makes a new file for writing. What has the name already, of whatever type, is
// an error: fs.ErrExist.
func (d *Dir) Create(name string, perm fs.FileMode) (*os.File, error) {
	if err := plain(name); err != nil {
		return nil, err
	}
	return openAt(d.f, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, uint32(perm.Perm()))
}

// Replace writes a file as a whole or not at all: under a name of its own first, which
// then takes the place of the old file. The mode is perm, whatever the umask. When it
// returns, the file is on the disk.
func (d *Dir) Replace(name string, b []byte, perm fs.FileMode) error {
	if err := d.replace(name, b, perm, (*os.File).Sync); err != nil {
		return err
	}
	return d.f.Sync()
}

// ReplaceUnsynced is Replace of what is to outlive the process, and not the machine: it does
// not wait for the disk.
func (d *Dir) ReplaceUnsynced(name string, b []byte, perm fs.FileMode) error {
	return d.replace(name, b, perm, func(*os.File) error { return nil })
}

func (d *Dir) replace(name string, b []byte, perm fs.FileMode, sync func(*os.File) error) error {
	temporary := name + ".new"
	if err := d.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(temporary, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = errors.Join(f.Chmod(perm), sync(f))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, d.Remove(temporary)) // it may be what has filled the disk
	}
	return d.Rename(temporary, name)
}

// Rename renames a file within the directory.
func (d *Dir) Rename(from, to string) error {
	if err := errors.Join(plain(from), plain(to)); err != nil {
		return err
	}
	if err := unix.Renameat(int(d.f.Fd()), from, int(d.f.Fd()), to); err != nil {
		return &fs.PathError{Op: "rename", Path: filepath.Join(d.Path(), from), Err: err}
	}
	return nil
}

// Remove removes a name that is not a directory's.
func (d *Dir) Remove(name string) error {
	if err := plain(name); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(d.f.Fd()), name, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: filepath.Join(d.Path(), name), Err: err}
	}
	return nil
}

// Mode returns the type and mode of a name; a link is a link.
func (d *Dir) Mode(name string) (fs.FileMode, error) {
	if err := plain(name); err != nil {
		return 0, err
	}
	info, err := os.Lstat(filepath.Join("/proc/self/fd", strconv.Itoa(int(d.f.Fd())), name))
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

// Names lists the directory.
func (d *Dir) Names() ([]string, error) {
	// By a descriptor of its own: the place in a listing is the descriptor's.
	f, err := openAt(d.f, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func plain(name string) error {
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return fmt.Errorf("%q is not the name of a file", name)
	}
	return nil
}

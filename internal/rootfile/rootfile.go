// SPDX-License-Identifier: Apache-2.0

// Package rootfile opens files by name for a process that may do more than those who
// could have put the files there. A path is walked one directory at a time, and each
// directory, link and file on it is judged when it is held open, so that nobody can
// swap what was judged for something else.
package rootfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Rule says who may own, and so write, a file and the directories on the way to it.
// Nobody else may be able to write any of them; a sticky directory protects what its
// users own.
type Rule struct {
	self      bool // this process's user may own it, beside root
	lastLinks bool // the last part of the path may be a link
}

var (
	// Root is the rule for what tells this process what to do: configuration, drop-ins,
	// secrets. Root alone may own them. Links that root has made are followed (a
	// mounted ConfigMap consists of them).
	Root = Rule{lastLinks: true}
	// Own is the rule for what this process writes for itself: state, run files, pins.
	// Root or this process's own user may own them, and the last part of the path is
	// no link.
	Own = Rule{self: true}
	// Plain is the rule for what other programs of root's keep for themselves: Root, and the
	// last part of the path is no link.
	Plain = Rule{}
)

// An UntrustedError says why a file is not what it should be, and how to mend it.
type UntrustedError struct {
	Path   string // as it was asked for
	Reason string
}

func (e *UntrustedError) Error() string { return e.Path + ": " + e.Reason }

// Open opens a regular file for reading. It never waits: neither for the writer of a
// FIFO nor for a device. The error is an [UntrustedError] where the rule or the type
// of the file refuses it, and fs.ErrNotExist where there is none.
func (r Rule) Open(path string) (*os.File, error) {
	at, name, err := r.walk(path, 0)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return r.open(at, name, path)
}

// OpenDir opens a directory that, with all that is in it, obeys the rule.
func (r Rule) OpenDir(path string) (*Dir, error) { return r.dir(path, 0, r.judge) }

// MakeDir is OpenDir, and makes the directory where it is missing, with those on the
// way to it.
func (r Rule) MakeDir(path string, perm fs.FileMode) (*Dir, error) { return r.dir(path, perm, r.judge) }

// ForeignDir opens a directory that may belong to anyone, and makes it where it is
// missing and perm is not 0. The way to it obeys the rule; what is in it is to be
// taken for hostile.
func (r Rule) ForeignDir(path string, perm fs.FileMode) (*Dir, error) {
	return r.dir(path, perm, func(string, string, *unix.Stat_t) error { return nil })
}

// judgement decides on one file; what names it in the error, as in "its directory /x".
type judgement func(what, path string, st *unix.Stat_t) error

func (r Rule) dir(path string, perm fs.FileMode, judge judgement) (*Dir, error) {
	at, name, err := r.walk(path, perm)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	f, err := openAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	st, err := stat(f)
	if err == nil {
		err = judge("the directory", f.Name(), st)
	}
	if err != nil {
		f.Close()
		return nil, untrusted(path, err)
	}
	return &Dir{f, r}, nil
}

// open opens a file of a directory that was judged.
func (r Rule) open(at *os.File, name, path string) (*os.File, error) {
	// Looked at before it is opened as well: to open a device can do something.
	var st unix.Stat_t
	if err := unix.Fstatat(int(at.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err := regular(&st); err != nil {
		return nil, untrusted(path, err)
	}
	f, err := openAt(at, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	is, err := stat(f)
	if err == nil {
		err = errors.Join(regular(is), r.judge("the file", path, is))
	}
	if err != nil {
		f.Close()
		return nil, untrusted(path, err)
	}
	return f, nil
}

// maxLinks is how many links a path may lead through, as many as the kernel follows
// (path_resolution(7)).
const maxLinks = 40

// walk follows a path up to its last part, and returns the directory that holds that
// part. It makes what is missing where perm is not 0, the last part too.
func (r Rule) walk(path string, perm fs.FileMode) (at *os.File, name string, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, "", err
	}
	if at, err = r.root(path); err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			at.Close()
		}
	}()
	for todo, links := split(abs), 0; ; {
		if len(todo) == 0 {
			return at, ".", nil
		}
		name, todo = todo[0], todo[1:]
		st, err := lookAt(at, name, perm)
		switch {
		case err != nil:
			return at, "", err
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			if links++; links > maxLinks {
				return at, "", &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
			}
			target, err := r.link(at, name, st, len(todo) == 0)
			if err != nil {
				return at, "", untrusted(path, err)
			}
			if filepath.IsAbs(target) {
				top, err := r.root(path)
				if err != nil {
					return at, "", err
				}
				at.Close()
				at = top
			}
			todo = append(split(target), todo...)
		case len(todo) == 0:
			return at, name, nil
		default:
			next, err := r.step(at, name)
			if err != nil {
				return at, "", untrusted(path, err)
			}
			at.Close()
			at = next
		}
	}
}

// root opens the root directory.
func (r Rule) root(path string) (*os.File, error) {
	f, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	st, err := stat(f)
	if err == nil {
		err = r.judge("its directory /", "/", st)
	}
	if err != nil {
		f.Close()
		return nil, untrusted(path, err)
	}
	return f, nil
}

// step opens a directory on the way.
func (r Rule) step(at *os.File, name string) (*os.File, error) {
	next, err := openAt(at, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	st, err := stat(next)
	if err == nil {
		err = r.judge("its directory "+next.Name(), next.Name(), st)
	}
	if err != nil {
		next.Close()
		return nil, err
	}
	return next, nil
}

// link returns where a link leads. Whoever made it says so, hence it is judged like a
// file, but for its mode, which means nothing.
func (r Rule) link(at *os.File, name string, st *unix.Stat_t, last bool) (string, error) {
	path := filepath.Join(at.Name(), name)
	if last && !r.lastLinks {
		return "", fmt.Errorf("%s is a symbolic link", path)
	}
	if err := r.owner("the link "+path, path, st.Uid); err != nil {
		return "", err
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(at.Fd()), name, buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	return string(buf[:n]), nil
}

// judge refuses a file by its owner and its mode. The hint is a command that mends it.
func (r Rule) judge(what, path string, st *unix.Stat_t) error {
	if err := r.owner(what, path, st.Uid); err != nil {
		return err
	}
	if openToOthers(st) {
		return fmt.Errorf("%s can be written by others than %s (mode %04o): chmod go-w %s", what, r.owners(), st.Mode&0o777, path)
	}
	return nil
}

// openToOthers reports whether others than the owner can write a file, or replace what
// is in a directory.
func openToOthers(st *unix.Stat_t) bool {
	sticky := st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&unix.S_ISVTX != 0
	return st.Mode&0o022 != 0 && !sticky
}

func (r Rule) owner(what, path string, uid uint32) error {
	if uid == 0 || r.self && int(uid) == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%s belongs to uid %d, not to %s: chown root %s", what, uid, r.owners(), path)
}

func (r Rule) owners() string {
	if r.self && os.Geteuid() != 0 {
		return fmt.Sprintf("root or uid %d", os.Geteuid())
	}
	return "root"
}

func regular(st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		return errors.New("is a directory")
	case unix.S_IFLNK:
		return errors.New("is a symbolic link")
	default:
		return errors.New("is not a regular file")
	}
}

// untrusted makes a refusal an UntrustedError, and leaves the errors of calls alone.
func untrusted(path string, err error) error {
	var call *fs.PathError
	if errors.As(err, &call) {
		return err
	}
	return &UntrustedError{path, err.Error()}
}

// lookAt is fstatat(2) of the name itself. With perm it makes a directory that is
// missing.
func lookAt(at *os.File, name string, perm fs.FileMode) (*unix.Stat_t, error) {
	var st unix.Stat_t
	path := filepath.Join(at.Name(), name)
	err := unix.Fstatat(int(at.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) && perm != 0 {
		if err := unix.Mkdirat(int(at.Fd()), name, uint32(perm)); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &fs.PathError{Op: "mkdir", Path: path, Err: err}
		}
		err = unix.Fstatat(int(at.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &st, nil
}

// openAt opens a name in a directory, never through a link.
func openAt(at *os.File, name string, flags int, perm uint32) (*os.File, error) {
	path := filepath.Join(at.Name(), name)
	for {
		fd, err := unix.Openat(int(at.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

func stat(f *os.File) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return &st, nil
}

// split returns the parts of a path.
func split(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

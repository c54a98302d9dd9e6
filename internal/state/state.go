// SPDX-License-Identifier: Apache-2.0

// Package state keeps what the daemon knows in a file, so that a successor continues
// where it stopped. The file belongs to one boot and one version of its layout, is
// replaced as a whole, and is either right to the last bit or not read at all.
package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// MaxBytes bounds the file.
const MaxBytes = 64 << 20

// Names in the directory.
const (
	fileName   = "state"
	asideMark  = ".corrupt-"
	asideTime  = "20060102T150405.000000000" // in UTC
	maxAside   = 3
	magic      = "abot-trace state 1\n"
	maxWord    = 128
	maxSection = 64
)

var (
	// ErrTooLarge is returned for a state beyond MaxBytes.
	ErrTooLarge = errors.New("state: larger than its bound")
	// ErrCorrupt is returned for a file that Save cannot have written.
	ErrCorrupt = errors.New("state: corrupt")
	// ErrForeign is returned for a file of another boot or another layout.
	ErrForeign = errors.New("state: of another boot or version")
)

// Sections are the parts of the state by name. What is in them is the owners' matter.
type Sections map[string][]byte

// A Dir is the directory of the state, locked: one daemon uses it at a time.
type Dir struct {
	dir    *rootfile.Dir
	boot   string
	layout string
	lock   *dirlock.Lock
}

// Open makes the directory where it is missing, and locks it. layout names the version
// of all sections together. It belongs to this process's user or to root, and nobody
// else can write there: whoever can says what this process knows. The error is a
// [rootfile.UntrustedError] where that does not hold, and a [dirlock.BusyError] where
// another process has it. Close it.
func Open(path, layout string) (*Dir, error) {
	return open(path, layout, func() (*rootfile.Dir, error) { return rootfile.Own.MakeDir(path, 0o700) })
}

// Forget removes the state in a directory that may be another user's, with what was set
// aside, and returns how many files that were. The error is a [dirlock.BusyError] while
// a process uses the directory.
func Forget(path string) (removed int, err error) {
	d, err := open(path, "", func() (*rootfile.Dir, error) { return rootfile.Own.ForeignDir(path, 0) })
	if err != nil {
		return 0, err
	}
	removed, err = d.forget()
	return removed, errors.Join(err, d.Close())
}

func open(path, layout string, openDir func() (*rootfile.Dir, error)) (*Dir, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	dir, err := openDir()
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	lock, err := dirlock.Acquire(path)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &Dir{dir: dir, boot: strings.TrimSpace(string(boot)), layout: layout, lock: lock}, nil
}

// Close lets another process use the directory.
func (d *Dir) Close() error { return errors.Join(d.lock.Release(), d.dir.Close()) }

// Path is where the directory is.
func (d *Dir) Path() string { return d.dir.Path() }

// Save replaces the file. When it returns, the new state is on the disk, or the old one
// is untouched.
func (d *Dir) Save(s Sections) error {
	b, err := encode(d.boot, d.layout, s)
	if err != nil {
		return err
	}
	if err := d.dir.Replace(fileName, b, 0o600); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// Load returns the state, nil where there is none. A file that is corrupt or foreign is
// set aside, and the error says so and why: ErrCorrupt, ErrForeign or ErrTooLarge, or a
// [rootfile.UntrustedError] for what is no file of ours.
func (d *Dir) Load() (Sections, error) {
	b, err := d.read(fileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var s Sections
		if s, err = decode(b, d.boot, d.layout); err == nil {
			return s, nil
		}
	}
	if aside := d.Discard(); aside != nil {
		return nil, errors.Join(err, aside)
	}
	return nil, fmt.Errorf("%w (set aside in %s)", err, d.Path())
}

func (d *Dir) read(name string) ([]byte, error) {
	f, err := d.dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if len(b) > MaxBytes {
		return nil, ErrTooLarge
	}
	return b, nil
}

// Discard sets the state aside, where it can be looked at. The oldest of those make
// room.
func (d *Dir) Discard() error {
	name := fileName + asideMark + time.Now().UTC().Format(asideTime)
	if err := d.dir.Rename(fileName, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state: %w", err)
	}
	return d.bound(fileName + asideMark)
}

// bound removes the oldest of the files set aside whose names begin so, but for maxAside.
func (d *Dir) bound(prefix string) error {
	aside, err := d.aside(prefix)
	if err != nil {
		return err
	}
	for len(aside) > maxAside {
		if err := d.dir.Remove(aside[0]); err != nil {
			return fmt.Errorf("state: %w", err)
		}
		aside = aside[1:]
	}
	return nil
}

// aside lists what was set aside under names that begin so, oldest first.
func (d *Dir) aside(prefix string) ([]string, error) {
	all, err := d.dir.Names()
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	var names []string
	for _, name := range all {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // by time
	return names, nil
}

// forget removes the state, and what was set aside.
func (d *Dir) forget() (removed int, err error) {
	states, err := d.aside(fileName + asideMark)
	if err != nil {
		return 0, err
	}
	crashes, err := d.aside(crashMark)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range slices.Concat(states, crashes, []string{fileName, fileName + ".new", crashName, leasesName, leasesName + ".new", trustName, trustName + ".new"}) {
		switch err := d.dir.Remove(name); {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("state: %w", err))
		}
	}
	return removed, errors.Join(errs...)
}

// encode lays the state out: magic, boot, layout, the sections sorted by name, each
// word and section after its length, and the SHA-256 of all that.
func encode(boot, layout string, s Sections) ([]byte, error) {
	size := len(magic) + sha256.Size
	for name, section := range s {
		size += len(name) + len(section) + 2*binary.MaxVarintLen64
	}
	if len(s) > maxSection || size+2*maxWord > MaxBytes {
		return nil, fmt.Errorf("%w: %d sections, %d bytes", ErrTooLarge, len(s), size)
	}
	b := append(make([]byte, 0, size+2*maxWord), magic...)
	put := func(v []byte) { b = append(binary.AppendUvarint(b, uint64(len(v))), v...) }
	put([]byte(boot))
	put([]byte(layout))
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		if len(name) > maxWord {
			return nil, fmt.Errorf("%w: section %.40s", ErrTooLarge, name)
		}
		put([]byte(name))
		put(s[name])
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// decode is the reverse. The sections alias b.
func decode(b []byte, boot, layout string) (Sections, error) {
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < sha256.Size {
		return nil, fmt.Errorf("%w: not a state", ErrCorrupt)
	}
	end := len(b) - sha256.Size
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) {
		return nil, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	d := decoder{b: rest[:len(rest)-sha256.Size]}
	ofBoot, ofLayout := string(d.bytes()), string(d.bytes())
	if d.bad {
		return nil, fmt.Errorf("%w: header", ErrCorrupt)
	}
	if ofBoot != boot {
		return nil, fmt.Errorf("%w: boot %.40s", ErrForeign, ofBoot)
	}
	if ofLayout != layout {
		return nil, fmt.Errorf("%w: layout %.40s, want %s", ErrForeign, ofLayout, layout)
	}
	s := make(Sections)
	for range min(d.uint(), maxSection) {
		name := string(d.bytes())
		s[name] = d.bytes()
	}
	if d.bad || len(d.b) != 0 {
		return nil, fmt.Errorf("%w: sections", ErrCorrupt)
	}
	return s, nil
}

// A decoder takes from b until it is bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

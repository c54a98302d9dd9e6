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
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/dirlock"
)

// MaxBytes bounds the file.
const MaxBytes = 64 << 20

// Names in the directory.
const (
	fileName   = "state"
	newName    = fileName + ".new"
	asideMark  = ".corrupt-"
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
	path   string
	boot   string
	layout string
	lock   *dirlock.Lock
}

// Open makes the directory where it is missing, and locks it. layout names the version
// of all sections together. The error is a [dirlock.BusyError] where another process
// has it. Close it.
func Open(path, layout string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	lock, err := dirlock.Acquire(path)
	if err != nil {
		return nil, err
	}
	return &Dir{path: path, boot: strings.TrimSpace(string(boot)), layout: layout, lock: lock}, nil
}

// Close lets another process use the directory.
func (d *Dir) Close() error { return d.lock.Release() }

// Path is where the directory is.
func (d *Dir) Path() string { return d.path }

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }

// Save replaces the file. When it returns, the new state is on the disk, or the old one
// is untouched.
func (d *Dir) Save(s Sections) error {
	b, err := encode(d.boot, d.layout, s)
	if err != nil {
		return err
	}
	if err := writeFile(d.file(newName), b); err != nil {
		_ = os.Remove(d.file(newName)) // it may be what has filled the disk
		return fmt.Errorf("state: %w", err)
	}
	if err := os.Rename(d.file(newName), d.file(fileName)); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return d.sync()
}

func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sync makes a rename last.
func (d *Dir) sync() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// Load returns the state, nil where there is none. A file that is corrupt or foreign is
// set aside, and the error says so and why: ErrCorrupt, ErrForeign or ErrTooLarge.
func (d *Dir) Load() (Sections, error) {
	b, err := readFile(d.file(fileName))
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
	return nil, fmt.Errorf("%w (set aside in %s)", err, d.path)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
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
	name := fileName + asideMark + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(d.file(fileName), d.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state: %w", err)
	}
	aside, err := d.aside()
	if err != nil {
		return err
	}
	for len(aside) > maxAside {
		if err := os.Remove(d.file(aside[0])); err != nil {
			return fmt.Errorf("state: %w", err)
		}
		aside = aside[1:]
	}
	return nil
}

// aside lists what was set aside, oldest first.
func (d *Dir) aside() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), fileName+asideMark) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names) // by time
	return names, nil
}

// Forget removes the state, and what was set aside, and returns how many files that
// were.
func (d *Dir) Forget() (removed int, err error) {
	names, err := d.aside()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range append(names, fileName, newName) {
		switch err := os.Remove(d.file(name)); {
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

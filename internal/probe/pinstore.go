// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// DefaultPins is where objects are pinned when there is no service manager.
const DefaultPins = "/sys/fs/bpf/abot-trace"

// PinStore keeps objects as pins in a directory of a BPF file system. It outlives the
// process, not the machine or the mount.
type PinStore struct {
	dir  string
	lock *dirlock.Lock
}

// ErrNoBPFFS says that a directory for pins is not in a BPF file system.
var ErrNoBPFFS = errors.New("not in a BPF file system")

// NewPinStore makes the directory where it is missing, and locks it: two readers of
// one ring corrupt it. Nobody but root and this process's user can write there. The error is a [dirlock.BusyError] where another process has it.
func NewPinStore(dir string) (*PinStore, error) {
	_, before := os.Lstat(dir)
	// Anyone may make directories where BPF file systems are mounted by default.
	held, err := rootfile.Own.MakeDir(dir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	defer held.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("pins %s: %w", dir, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		if before != nil {
			_ = os.Remove(dir)
		}
		return nil, fmt.Errorf("pins %s: %w", dir, ErrNoBPFFS)
	}
	lock, err := dirlock.Acquire(dir)
	if err != nil {
		return nil, err
	}
	return &PinStore{dir, lock}, nil
}

// Names implements Store.
func (s *PinStore) Names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Map implements Store.
func (s *PinStore) Map(name string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(s.dir, name), nil)
	if err != nil {
		return nil, fmt.Errorf("pin %s: %w", name, err)
	}
	return m, nil
}

// Link implements Store.
func (s *PinStore) Link(name string) (link.Link, error) {
	l, err := link.LoadPinnedLink(filepath.Join(s.dir, name), nil)
	if err != nil {
		return nil, fmt.Errorf("pin %s: %w", name, err)
	}
	return l, nil
}

// Keep implements Store.
func (s *PinStore) Keep(name string, o Object) error {
	if err := o.Pin(filepath.Join(s.dir, name)); err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	return nil
}

// Drop implements Store.
func (s *PinStore) Drop(name string) error {
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pins: %w", err)
	}
	return nil
}

// Close lets another process use the directory, and removes it when it is empty.
func (s *PinStore) Close() error {
	_ = os.Remove(s.dir)
	return s.lock.Release()
}

// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// FDStore is the service manager's file descriptor store (FileDescriptorStoreMax= in
// systemd.service(5)). It outlives the process and restarts, not a stop of the unit.
type FDStore struct {
	socket string
	files  []*os.File // what an earlier process had stored
}

// ErrNoManager says that no service manager is there to keep descriptors.
var ErrNoManager = errors.New("not run by systemd: NOTIFY_SOCKET or INVOCATION_ID is not set")

// NewFDStore takes over the descriptors that the service manager has handed to this
// process, once in its life: it removes them from the environment.
func NewFDStore() (*FDStore, error) {
	// Container engines pass on NOTIFY_SOCKET too, and keep no descriptors.
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" || os.Getenv("INVOCATION_ID") == "" {
		return nil, ErrNoManager
	}
	return &FDStore{socket: socket, files: activation.Files(true)}, nil
}

// Names implements Store.
func (s *FDStore) Names() ([]string, error) {
	names := make([]string, len(s.files))
	for i, f := range s.files {
		names[i] = f.Name()
	}
	return names, nil
}

// dup returns a copy of the descriptor with that name.
func (s *FDStore) dup(name string) (int, error) {
	i := slices.IndexFunc(s.files, func(f *os.File) bool { return f.Name() == name })
	if i < 0 {
		return -1, fmt.Errorf("descriptor %s: %w", name, os.ErrNotExist)
	}
	fd, err := unix.FcntlInt(s.files[i].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("descriptor %s: %w", name, err)
	}
	return fd, nil
}

// Map implements Store.
func (s *FDStore) Map(name string) (*ebpf.Map, error) {
	fd, err := s.dup(name)
	if err != nil {
		return nil, err
	}
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("descriptor %s: %w", name, err)
	}
	return m, nil
}

// Link implements Store.
func (s *FDStore) Link(name string) (link.Link, error) {
	fd, err := s.dup(name)
	if err != nil {
		return nil, err
	}
	l, err := link.NewFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("descriptor %s: %w", name, err)
	}
	return l, nil
}

// Keep implements Store. FDPOLL=0 keeps the manager from being woken by each record.
func (s *FDStore) Keep(name string, o Object) error {
	return s.send("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", o.FD())
}

// Drop implements Store.
func (s *FDStore) Drop(name string) error {
	s.files = slices.DeleteFunc(s.files, func(f *os.File) bool {
		if f.Name() != name {
			return false
		}
		_ = f.Close()
		return true
	})
	return s.send("FDSTOREREMOVE=1\nFDNAME="+name, -1)
}

// Close closes this process's copies; the store keeps its own.
func (s *FDStore) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	s.files = nil
	return errors.Join(errs...)
}

// sendPatience, in seconds, is how long a manager may take to make room in its queue.
const sendPatience = 5

// send tells the manager, with a descriptor unless fd is negative. The socket is not
// connected: descriptors pass, and the manager may come back under the same name.
func (s *FDStore) send(state string, fd int) error {
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify socket: %w", err)
	}
	defer unix.Close(sock)
	if err := unix.SetsockoptTimeval(sock, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: sendPatience}); err != nil {
		return fmt.Errorf("notify socket: %w", err)
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	// A name that begins with @ is an abstract one, here as there.
	if err := unix.Sendmsg(sock, []byte(state), rights, &unix.SockaddrUnix{Name: s.socket}, 0); err != nil {
		return fmt.Errorf("notify %s: %w", s.socket, err)
	}
	return nil
}

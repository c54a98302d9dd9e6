// SPDX-License-Identifier: Apache-2.0

// Package holds reads what a process keeps from others: listening ports, graphics devices, the
// space of deleted files, shared memory, file locks. It asks no file server: files of network
// file systems and of FUSE, which could hang, are left out and counted. All the same, each
// process is read on the account of its user, within a time, as what package slowread is for.
package holds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/otherend"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/slowread"
)

// Held is what one process holds. Paths were chosen by processes, and are hostile.
type Held struct {
	Ports        []procfs.Port
	GPUs         []GPU
	DeletedBytes uint64 // on disk, of files without a name that it has open
	SharedBytes  uint64 // shared memory that it has mapped, resident
	Locks        []Lock
	// Unread says in a phrase each what could not be read.
	Unread []string

	// By these what several processes hold together is counted once.
	files   map[file]uint64
	clients map[client]uint64
}

// A file is one by its device and its inode.
type file struct{ device, inode uint64 }

// A client is who has opened a graphics device: its descriptors, in several processes perhaps.
type client struct{ device, id string }

// Add adds what another process holds. Of shared memory, which they may share with each other,
// it keeps the larger.
func (h *Held) Add(other *Held) {
	h.Ports = union(h.Ports, other.Ports)
	h.Locks = union(h.Locks, other.Locks)
	h.Unread = union(h.Unread, other.Unread)
	h.SharedBytes = max(h.SharedBytes, other.SharedBytes)
	for f, bytes := range other.files {
		h.addFile(f, bytes)
	}
	for i := range other.GPUs {
		h.gpu(other.GPUs[i].Device)
	}
	for c, bytes := range other.clients {
		h.addClient(c, bytes)
	}
}

func union[T comparable](all, more []T) []T {
	for _, v := range more {
		if len(all) < maxListed && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}

func (h *Held) addFile(f file, bytes uint64) {
	if _, counted := h.files[f]; counted {
		return
	}
	if h.files == nil {
		h.files = make(map[file]uint64)
	}
	h.files[f] = bytes
	h.DeletedBytes += bytes
}

func (h *Held) addClient(c client, bytes uint64) {
	if _, counted := h.clients[c]; counted {
		return
	}
	if h.clients == nil {
		h.clients = make(map[client]uint64)
	}
	h.clients[c] = bytes
	gpu := h.gpu(c.device)
	gpu.Bytes, gpu.Known = gpu.Bytes+bytes, true
}

// gpu returns the entry of a device, which it makes.
func (h *Held) gpu(device string) *GPU {
	for i := range h.GPUs {
		if h.GPUs[i].Device == device {
			return &h.GPUs[i]
		}
	}
	h.GPUs = append(h.GPUs, GPU{Device: device})
	return &h.GPUs[len(h.GPUs)-1]
}

// Lock is a lock on a file.
type Lock struct {
	procfs.Lock
	Path string
}

// Bounds on one process.
const (
	readTimeout = 2 * time.Second
	maxListed   = 64 // ports, and locks
)

// A Reader reads processes, some at a time. It is safe for concurrent use.
type Reader struct{ reads slowread.Reads }

// Read returns what the process holds, procfs.ErrGone where it is dead. It waits at most 2 s;
// uid is its user.
func (r *Reader) Read(ctx context.Context, id event.ID, uid uint32) (Held, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	held, err := slowread.Do(ctx, &r.reads, uid, func() (Held, error) { return read(id) })
	if errors.Is(err, context.DeadlineExceeded) {
		return held, fmt.Errorf("what pid %d holds: no answer within %s", id.PID, readTimeout)
	}
	return held, err
}

// A look is one reading of a process.
type look struct {
	Held
	borrower *otherend.Borrower
	p        *procfs.Process
	fsTypes  map[int]string
	left     int // files of file systems that may hang
	strange  int // files of mounts that its mount namespace does not have: opened in another one
}

func read(id event.ID) (Held, error) {
	b, err := otherend.New(id)
	if err != nil {
		return Held{}, err
	}
	defer b.Close()
	l := &look{borrower: b, p: b.Process()}
	if err := l.descriptors(); err != nil {
		return Held{}, err
	}
	if bytes, known, err := l.p.SharedMemory(); err == nil && known {
		l.SharedBytes = bytes
	} else {
		l.Unread = append(l.Unread, "shared memory")
	}
	if l.left > 0 {
		l.Unread = append(l.Unread, quantity.Count(l.left, "file")+" of file systems that may hang")
	}
	if l.strange > 0 {
		l.Unread = append(l.Unread, quantity.Count(l.strange, "file")+" of mounts that its mount namespace does not have")
	}
	return l.Held, nil
}

// descriptors looks at each descriptor.
func (l *look) descriptors() (err error) {
	fds, err := l.p.FDs()
	if err != nil {
		return err
	}
	if len(fds) == procfs.MaxFDs {
		l.Unread = append(l.Unread, fmt.Sprintf("descriptors beyond %d", procfs.MaxFDs))
	}
	if l.fsTypes, err = l.p.FSTypes(); err != nil {
		l.fsTypes = nil
		l.Unread = append(l.Unread, "files: which file systems they are of is not known")
	}
	var refused error
	for _, fd := range fds {
		name, err := l.p.FD(fd)
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(name, "socket:["):
			if refused == nil {
				refused = l.socket(fd)
			}
		case strings.HasPrefix(name, "/"):
			l.file(fd, name)
		}
	}
	if refused == nil {
		return nil
	}
	// Descriptors cannot be borrowed here: what procfs shows serves for all that it shows.
	var table procfs.Ports
	l.Ports, err = table.Of(l.p)
	if err != nil {
		l.Ports, l.Unread = nil, append(l.Unread, "ports: "+refused.Error())
	}
	return nil
}

// socket notes where a socket can be reached.
func (l *look) socket(fd int) error {
	port, ok, err := l.borrower.Port(fd)
	if ok {
		l.Ports = union(l.Ports, []procfs.Port{port})
	}
	return err
}

// file notes what a descriptor of a file, or of a device, holds.
func (l *look) file(fd int, name string) {
	info, err := l.p.FDInfo(fd)
	if err != nil {
		return // closed meanwhile
	}
	for _, lock := range info.Locks {
		l.Locks = union(l.Locks, []Lock{{lock, name}})
	}
	// The kernel's own mounts are nobody's.
	if kind, known := l.fsTypes[info.MountID]; !isSharedMemory(name) {
		switch {
		case !known && l.fsTypes != nil:
			l.strange++
			return
		case !slices.Contains(localTypes, kind):
			l.left++
			return
		}
	}
	var st unix.Stat_t
	if err := l.p.StatFD(fd, &st); err != nil {
		return
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		l.device(fd, st.Rdev, &info)
	case unix.S_IFREG:
		if st.Nlink == 0 && !isSharedMemory(name) {
			l.addFile(file{st.Dev, st.Ino}, uint64(st.Blocks)*512)
		}
	}
}

// isSharedMemory reports whether the kernel made the file for shared memory alone: it is counted
// where it is mapped.
func isSharedMemory(name string) bool {
	return strings.HasPrefix(name, "/memfd:") || strings.HasPrefix(name, "/SYSV") || strings.HasPrefix(name, "/dev/zero")
}

// localTypes are file systems that ask nobody else for what stat(2) tells: their files can be
// asked about without waiting for a server.
var localTypes = []string{"bcachefs", "btrfs", "devtmpfs", "devpts", "exfat", "ext2", "ext3", "ext4", "f2fs", "hugetlbfs",
	"iso9660", "jfs", "ntfs3", "nilfs2", "overlay", "proc", "ramfs", "reiserfs", "squashfs", "sysfs", "tmpfs", "vfat", "xfs", "zfs"}

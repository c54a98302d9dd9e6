// SPDX-License-Identifier: Apache-2.0

package holds

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A fuseServer serves a directory with one file in it (linux/fuse.h), until it hangs.
type fuseServer struct {
	dev   *os.File
	dir   string
	hangs atomic.Bool
}

// Requests that are answered, and the node of the file.
const (
	fuseLookup, fuseGetattr, fuseOpen, fuseInit = 1, 3, 14, 26
	fuseNode                                    = 2
)

func serveFUSE(t *testing.T, dir string) *fuseServer {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("test", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		t.Fatal(err)
	}
	// Only now: before the mount it cannot be polled.
	s := &fuseServer{dir: dir, dev: os.NewFile(uintptr(fd), "/dev/fuse")}
	go s.serve()
	t.Cleanup(func() {
		s.abort()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	return s
}

// hang has it answer nothing from now on.
func (s *fuseServer) hang() { s.hangs.Store(true) }

// abort ends the connection: who waits for an answer gets an error.
func (s *fuseServer) abort() {
	_ = unix.Unmount(s.dir, unix.MNT_FORCE) // which ends the connection, busy or not
	_ = s.dev.Close()
}

func (s *fuseServer) serve() {
	buf := make([]byte, 1<<20)
	for {
		n, err := s.dev.Read(buf)
		if err != nil {
			return
		}
		if n < 40 || s.hangs.Load() {
			continue
		}
		le := binary.NativeEndian
		opcode, unique := le.Uint32(buf[4:]), le.Uint64(buf[8:])
		var body []byte
		errno := int32(0)
		switch opcode {
		case fuseInit:
			body = make([]byte, 64)
			le.PutUint32(body[0:], 7)
			le.PutUint32(body[4:], 31)
			le.PutUint32(body[20:], 1<<16) // max_write
		case fuseLookup:
			body = make([]byte, 128) // fuse_entry_out: attributes are good for no time
			le.PutUint64(body[0:], fuseNode)
			putAttr(body[40:], fuseNode, unix.S_IFREG|0o644)
		case fuseGetattr:
			body = make([]byte, 104)
			node, mode := le.Uint64(buf[16:]), uint32(unix.S_IFDIR|0o755)
			if node == fuseNode {
				mode = unix.S_IFREG | 0o644
			}
			putAttr(body[16:], node, mode)
		case fuseOpen:
			body = make([]byte, 16)
		default:
			errno = -int32(unix.ENOSYS)
		}
		out := make([]byte, 16, 16+len(body))
		le.PutUint32(out[0:], uint32(16+len(body)))
		le.PutUint32(out[4:], uint32(errno))
		le.PutUint64(out[8:], unique)
		if _, err := s.dev.Write(append(out, body...)); err != nil {
			return
		}
	}
}

// putAttr writes a fuse_attr.
func putAttr(b []byte, node uint64, mode uint32) {
	le := binary.NativeEndian
	le.PutUint64(b[0:], node)
	le.PutUint32(b[60:], mode)
	le.PutUint32(b[64:], 1) // links
}

// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
)

// A Peer is the process at the other end of a connection, as the kernel vouches for it
// at the moment it connected.
type Peer struct {
	PID      int32
	UID, GID uint32
	Groups   []uint32 // supplementary
	// Since is when the connection was accepted, CLOCK_BOOTTIME ns: a process that
	// started later and has the pid is another one.
	Since uint64
}

type peerKey struct{}

// PeerOf returns who sent the request with that context.
func PeerOf(ctx context.Context) Peer {
	p, _ := ctx.Value(peerKey{}).(Peer)
	return p
}

// peerOf asks the kernel who is at the other end (SO_PEERCRED, SO_PEERGROUPS in
// unix(7) and socket(7)).
func peerOf(conn net.Conn) (Peer, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return Peer{}, fmt.Errorf("peer credentials: not a socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	p := Peer{Since: boottime.Now()}
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); sockErr != nil {
			return
		}
		p.PID, p.UID, p.GID = cred.Pid, cred.Uid, cred.Gid
		p.Groups = peerGroups(int(fd))
	})
	if err == nil {
		err = sockErr
	}
	if err != nil {
		return Peer{}, fmt.Errorf("peer credentials: %w", err)
	}
	return p, nil
}

// peerGroups returns the peer's supplementary groups; none where the kernel does not
// tell (before 4.13), which denies rather than grants.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 64)
	for range 2 {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return groups[:size/4]
		case unix.ERANGE:
			groups = make([]uint32, size/4)
		default:
			return nil
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package otherend

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

// Port returns where the process can be reached by the descriptor: a TCP socket that listens,
// or a UDP socket that is bound and not connected. It works in any network namespace, and ok
// is false where the descriptor is something else.
func (b *Borrower) Port(fd int) (port procfs.Port, ok bool, err error) {
	_, err = b.borrow(fd, func(own int) error {
		port, ok = portOf(own)
		return nil
	})
	return port, ok, err
}

// portOf is Port of a descriptor of our own. What cannot be asked of a socket it is not.
func portOf(fd int) (port procfs.Port, ok bool) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return port, false
	}
	switch kind {
	case unix.IPPROTO_TCP, unix.IPPROTO_MPTCP:
		port.Proto = "tcp"
		listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil || listens == 0 {
			return port, false
		}
	case unix.IPPROTO_UDP:
		port.Proto = "udp"
		if _, err := unix.Getpeername(fd); err == nil {
			return port, false
		}
	default:
		return port, false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return port, false
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		port.Addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		port.Proto += "6"
		port.Addr = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	default:
		return port, false
	}
	return port, port.Addr.Port() != 0
}

// Process is the process whose descriptors are borrowed; it is closed with the borrower.
func (b *Borrower) Process() *procfs.Process { return b.proc }

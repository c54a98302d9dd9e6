// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rawsys"
)

// A rawConn reads from a socket without telling the scheduler of the system calls,
// which do not block: for the first after a pause the runtime would wake its monitor
// thread, and that takes the processor that the reader has just got.
type rawConn struct {
	net.Conn
	raw syscall.RawConn
}

func newRawConn(conn net.Conn) (net.Conn, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T is no socket", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &rawConn{conn, raw}, nil
}

// Read implements net.Conn.
func (c *rawConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	var n int
	var readErr error
	err := c.raw.Read(func(fd uintptr) (done bool) {
		n, readErr = rawsys.Read(int(fd), b)
		return readErr != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case readErr != nil:
		return 0, &net.OpError{Op: "read", Net: "unix", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: readErr}
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

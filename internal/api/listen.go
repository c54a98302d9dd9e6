// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// Listen makes the socket, and its directory where it is missing. A socket that a dead
// daemon left is replaced; a living one is an error. The way to the directory is root's
// or this user's; the directory itself may belong to another daemon's user, but nobody
// else can replace what is in it.
func Listen(path string) (net.Listener, error) {
	dir, err := rootfile.Own.ForeignDir(filepath.Dir(path), 0o755)
	if err != nil {
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	defer dir.Close()
	if shared, err := dir.Shared(); err != nil || shared {
		return nil, fmt.Errorf("socket directory: %w", cmp.Or(err,
			fmt.Errorf("%s can be written by others than its owner: chmod go-w %[1]s", dir.Path())))
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		peer, _ := peerOf(conn)
		_ = conn.Close()
		return nil, fmt.Errorf("socket %s: another daemon serves it (pid %d)", path, peer.PID)
	}
	name := filepath.Base(path)
	if mode, err := dir.Mode(name); err == nil {
		if mode&os.ModeSocket == 0 {
			return nil, fmt.Errorf("socket %s: something else is there: %s", path, mode.Type())
		}
		if err := dir.Remove(name); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	}
	return listenForAll(path)
}

// listenForAll makes a socket that everyone may connect to: who may ask what is decided
// by the peer's credentials, and leases are for everyone. The mode is the socket's from
// the start (unix_bind in net/unix/af_unix.c takes it over, less the umask): one that
// was given to a path afterwards could be given to something else.
func listenForAll(path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o666) })
		return cmp.Or(err, failed)
	}}
	old := unix.Umask(0)
	defer unix.Umask(old)
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Conn is a connection to a helper. CloseWrite tells it that nothing more comes; it
// then delivers what it has and ends the connection.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetWriteDeadline(time.Time) error
}

// Dialer connects to a helper.
type Dialer func(context.Context) (Conn, error)

// DialSocket returns a Dialer for a helper that listens on a unix socket.
func DialSocket(path string) Dialer {
	return func(ctx context.Context) (Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		return conn.(*net.UnixConn), nil
	}
}

// Spawn returns a Dialer that starts this program again, with args, as the helper, which
// ends when the connection is closed. It runs as the user given, or as this process's own
// where as is nil. It gets no environment but PATH and the proxy settings.
func Spawn(as *syscall.Credential, args ...string) Dialer {
	return func(context.Context) (Conn, error) {
		// The program need not lie where that user may look.
		cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{Identifier}, args...), Env: HelperEnv(), Dir: "/"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		cmd.Stderr = os.Stderr
		in, helperIn, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		helperOut, out, err := os.Pipe()
		if err != nil {
			in.Close()
			helperIn.Close()
			return nil, err
		}
		cmd.Stdin, cmd.Stdout = in, out
		err = cmd.Start()
		in.Close()
		out.Close()
		if err != nil {
			helperIn.Close()
			helperOut.Close()
			return nil, err
		}
		return &child{File: helperIn, out: helperOut, cmd: cmd}, nil
	}
}

// HelperEnv is the environment that a helper and its hooks get.
func HelperEnv() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "LANG", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// child is the connection to a helper that is our child.
type child struct {
	*os.File // its standard input
	out      *os.File
	cmd      *exec.Cmd
}

func (c *child) Read(p []byte) (int, error) { return c.out.Read(p) }

func (c *child) CloseWrite() error { return c.File.Close() }

// Close lets a helper that still drains do so in the background, and ends one that
// takes too long.
func (c *child) Close() error {
	c.File.Close()
	late := time.AfterFunc(DrainTimeout+5*time.Second, c.kill)
	go func() {
		defer late.Stop()
		defer c.out.Close()
		_ = c.cmd.Wait()
	}()
	return nil
}

func (c *child) kill() { _ = c.cmd.Process.Kill() }

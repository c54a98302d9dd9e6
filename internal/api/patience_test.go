// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// mute serves a socket where connections succeed and answer is all that is ever said: as
// a daemon that was stopped, be it after so many bytes.
func mute(t *testing.T, answer string) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if answer != "" {
				_, _ = conn.Read(make([]byte, 4096)) // the question comes first
			}
			_, _ = io.WriteString(conn, answer)
		}
	}()
	c := NewClient(path)
	c.Patience = 20 * time.Millisecond
	return c
}

// TestEveryCallGivesUp asks a daemon that holds the socket and says nothing, or stops in
// the middle of its answer, for everything.
func TestEveryCallGivesUp(t *testing.T) {
	calls := map[string]func(context.Context, *Client) error{
		"GET /v1/orphans":  func(ctx context.Context, c *Client) error { _, err := c.Orphans(ctx); return err },
		"GET /v1/process":  func(ctx context.Context, c *Client) error { _, err := c.Process(ctx, 1); return err },
		"GET /v1/status":   func(ctx context.Context, c *Client) error { _, err := c.Status(ctx); return err },
		"GET /v1/explain":  func(ctx context.Context, c *Client) error { _, err := c.Explain(ctx, 1, ""); return err },
		"GET /v1/monitor":  func(ctx context.Context, c *Client) error { _, err := c.Monitor(ctx); return err },
		"POST /v1/cleanup": func(ctx context.Context, c *Client) error { _, err := c.Cleanup(ctx, CleanupRequest{}); return err },
		"GET /v1/tree": func(ctx context.Context, c *Client) error {
			return c.DrawTree(ctx, new(bytes.Buffer), render.TreeOptions{})
		},
		"GET /v1/events": func(ctx context.Context, c *Client) error {
			return c.Events(ctx, nil, 0, true, func(*wire.Event) error { return nil })
		},
	}
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n "} {
		for request, call := range calls {
			t.Run(fmt.Sprintf("%s after %d bytes", request, len(answer)), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				err := call(ctx, mute(t, answer))
				var silent *UnansweredError
				if !errors.As(err, &silent) || !strings.Contains(err.Error(), "waited 20ms for "+request) {
					t.Errorf("got %v, want an UnansweredError that names %s", err, request)
				}
			})
		}
	}
}

// TestLongCallsLast proves that a pass may take longer than the patience while the daemon
// answers others.
func TestLongCallsLast(t *testing.T) {
	d := serve(t, "")
	release := make(chan struct{})
	var asked atomic.Int32
	d.server.Handle("POST /v1/cleanup", func(w http.ResponseWriter, _ *http.Request) error {
		<-release
		return WriteJSON(w, []wire.Kill{})
	})
	d.server.Conditions = func() []string {
		// The third question for the status is later than the patience.
		if asked.Add(1) == 3 {
			close(release)
		}
		return nil
	}
	d.client.Patience = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := d.client.Cleanup(ctx, CleanupRequest{}); err != nil {
		t.Error(err)
	}
}

// TestGoneDaemon asks over a connection that a daemon took with it: that is no daemon, and
// not a trouble with the socket.
func TestGoneDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	c := NewClient(path)
	if err := c.Reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // hangs up what nobody has accepted
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v, want %v", err, ErrNoDaemon)
	}
}

// TestLongCallAsksAtOnce proves that a pass that a stopped daemon is asked for is given up
// after one patience: the first question for the status is not put off.
func TestLongCallAsksAtOnce(t *testing.T) {
	c := mute(t, "")
	c.Patience = 2 * time.Second
	began := make(chan struct{}, 8)
	dial := c.http.Transport.(*http.Transport).DialContext
	c.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		began <- struct{}{}
		return dial(ctx, network, address)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := c.Cleanup(ctx, CleanupRequest{}); done <- err }()
	for range 2 { // the pass, and the status beside it
		select {
		case <-began:
		case err := <-done:
			t.Fatalf("it was given up before it asked for the status: %v", err)
		}
	}
	cancel()
	var interrupted *InterruptedError
	if err := <-done; !errors.As(err, &interrupted) || err.Error() != "interrupted while waiting for POST /v1/cleanup" {
		t.Errorf("got %v", err)
	}
}

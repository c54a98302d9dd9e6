// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// stubborn is a request whose body never comes.
const stubborn = " HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"

// TestRootAlwaysGetsIn has more users than there are places take all they can get, and
// hold it. Root and the group of the socket are answered.
func TestRootAlwaysGetsIn(t *testing.T) {
	const group = 4242
	d := serve(t, "4242")
	for uid := 2001; uid <= 2020; uid++ {
		as(t, uid, uid, nil, func() {
			for range maxConnsOfUser {
				conn, err := net.Dial("unix", d.socket)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = conn.Close() })
				_, _ = io.WriteString(conn, "POST /v1/lease"+stubborn)
			}
		})
	}
	for range 3 * maxConnsOfUser {
		conn := d.dial(t)
		_, _ = io.WriteString(conn, "GET /v1/status"+stubborn)
	}
	d.answers(t)
	as(t, 3001, group, nil, func() {
		if code, text, err := d.ask("GET", "/v1/status", nil); code != http.StatusOK {
			t.Errorf("the group: %d, %s, %v", code, text, err)
		}
	})
}

// TestBodyNeverComes: neither one that is read nor one that is not is waited for for ever.
func TestBodyNeverComes(t *testing.T) {
	d := serveStalled(t, "", 100*time.Millisecond)
	d.server.HandleAny("POST /v1/read", func(w http.ResponseWriter, r *http.Request) error {
		var v struct{}
		return ReadJSON(w, r, &v)
	})
	for _, request := range []string{"POST /v1/read", "GET /v1/status", "PUT /nothing"} {
		conn := d.dial(t)
		if _, err := io.WriteString(conn, request+stubborn); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("%s: the connection is kept: %v", request, err)
		}
	}
}

// TestUserPaysForRequests has one user ask as fast as it can on all its connections, in
// pipelines. It gets its rate and no more; root is not held up.
func TestUserPaysForRequests(t *testing.T) {
	d := serve(t, "")
	began := time.Now()
	var mu sync.Mutex
	answered := 0
	as(t, 2001, 2001, nil, func() {
		var all sync.WaitGroup
		defer all.Wait()
		for range 8 {
			conn, err := net.Dial("unix", d.socket)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			all.Go(func() {
				_, _ = io.WriteString(conn, strings.Repeat("GET /v1/tree HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
			})
			all.Go(func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if strings.HasPrefix(lines.Text(), "HTTP/1.1 403") {
						mu.Lock()
						answered++
						mu.Unlock()
					}
				}
			})
		}
		d.answers(t)
	})
	most := int((burst+time.Since(began))/requestCost) + 1
	if answered == 0 || answered > most {
		t.Errorf("%d requests were answered, want 1 to %d", answered, most)
	}
}

// TestLimiter: the accounts, by a clock of the test's.
func TestLimiter(t *testing.T) {
	now := time.Now()
	l := newLimiter()
	l.now = func() time.Time { return now }
	const user, other = 1000, 1001
	if !l.take(user, rankGroup) || !l.take(other, rankStranger) || !l.take(0, rankRoot) {
		t.Fatal("not admitted")
	}
	for range int(burst/requestCost) - 1 {
		if wait := l.ask(user, rankGroup); wait != 0 {
			t.Fatalf("waits %v within its burst", wait)
		}
	}
	if wait := l.ask(user, rankGroup); wait != requestCost {
		t.Errorf("waits %v beyond it, want %v", wait, requestCost)
	}
	if wait := l.ask(other, rankStranger); wait != 0 {
		t.Errorf("another one waits %v", wait)
	}
	for range 1000 {
		if wait := l.ask(0, rankRoot); wait != 0 {
			t.Fatalf("root waits %v", wait)
		}
	}
	l.sent(user, rankGroup, 100<<20)
	if l.take(user, rankGroup) {
		t.Error("a connection for one who is in debt")
	}
	now = now.Add(10 * time.Second)
	if !l.take(user, rankGroup) {
		t.Error("no connection for one who has paid")
	}
	now = now.Add(time.Second)
	l.give(user, rankGroup)
	l.give(user, rankGroup)
	l.give(other, rankStranger)
	l.give(0, rankRoot)
	if len(l.shares) != 0 || l.all != 0 || l.users != 0 || l.stranger != 0 {
		t.Errorf("left: %+v", l)
	}
	// Strangers with many user ids leave room for the group, and both for root.
	for uid := uint32(1); l.take(uid, rankStranger); uid++ {
	}
	if l.stranger != maxStrangers {
		t.Errorf("%d strangers", l.stranger)
	}
	for uid := uint32(1 << 20); l.take(uid, rankGroup); uid++ {
	}
	if l.users != maxUsers || !l.take(0, rankRoot) {
		t.Errorf("%d users", l.users)
	}
}

// TestServeWaitsForHandlers: what a request uses may be taken down when Serve returns.
func TestServeWaitsForHandlers(t *testing.T) {
	server, err := NewServer(nil, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	entered, release, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server.HandleAny("GET /v1/slow", func(http.ResponseWriter, *http.Request) error {
		close(entered)
		<-release
		close(over)
		return nil
	})
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /v1/slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	cancel()
	_, _ = io.Copy(io.Discard, conn) // the server has given the connection up
	select {
	case <-served:
		t.Error("Serve returned before its handler")
	default:
	}
	close(release)
	if err := <-served; err != nil {
		t.Error(err)
	}
	select {
	case <-over:
	default:
		t.Error("Serve returned before its handler was over")
	}
}

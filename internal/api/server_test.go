// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestGarbage(t *testing.T) {
	d := serve(t, "")
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for name, bytes := range map[string][]byte{
		"nothing":            nil,
		"noise":              noise,
		"zeroes":             make([]byte, 4096),
		"half a request":     []byte("GET /v1/tr"),
		"no host":            []byte("GET /v1/tree HTTP/1.1\r\n\r\n"),
		"another protocol":   []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		"wrong length":       []byte("POST /v1/tree HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
		"two lengths":        []byte("GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
		"chunk without end":  []byte("GET /v1/status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
		"path with escapes":  []byte("GET /%2e%2e/%00%0a HTTP/1.1\r\nHost: x\r\n\r\n"),
		"method that is not": []byte("\x1b[31m /v1/tree HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			conn := d.dial(t)
			if _, err := conn.Write(bytes); err != nil {
				t.Logf("refused: %v", err)
			}
			_ = conn.(*net.UnixConn).CloseWrite()
			// What matters is that it ends.
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection stays open")
			}
			d.answers(t)
		})
	}
}

func TestHeadersWithoutEnd(t *testing.T) {
	d := serve(t, "")
	conn := d.dial(t)
	if _, err := io.WriteString(conn, "GET /v1/tree HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		answer <- line
	}()
	header := []byte("X-Endless: " + strings.Repeat("a", 1000) + "\r\n")
	sent := 0
	for ; sent < 64<<20; sent += len(header) {
		if _, err := conn.Write(header); err != nil {
			break
		}
	}
	if sent >= 64<<20 {
		t.Error("64 MiB of headers were taken")
	}
	if line := <-answer; line != "" && !strings.Contains(line, "431") {
		t.Errorf("answer %q, want 431", line)
	}
	d.answers(t)
}

func TestOversizeBodyIsNotTaken(t *testing.T) {
	d := serve(t, "")
	conn := d.dial(t)
	const length = 1 << 40
	if _, err := fmt.Fprintf(conn, "GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", length); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	sent := 0
	for ; sent < 64; sent++ {
		if _, err := conn.Write(block); err != nil {
			break
		}
	}
	if sent == 64 {
		t.Error("64 MiB of a body that nobody asked for were taken")
	}
	d.answers(t)
}

func TestBadRequests(t *testing.T) {
	d := serve(t, "")
	for _, tt := range []struct {
		name, method, path string
		code               int
		says               string
	}{
		{"no such path", "GET", "/v2/tree", 404, ""},
		{"wrong method", "POST", "/v1/tree", 405, ""},
		{"no pid", "GET", "/v1/process", 400, `pid \"\": want a positive number`},
		{"pid is a word", "GET", "/v1/process?pid=init", 400, `pid \"init\": want a positive number`},
		{"pid is negative", "GET", "/v1/process?pid=-1", 400, "want a positive number"},
		{"pid is too large", "GET", "/v1/process?pid=99999999999999999999", 400, "want a positive number"},
		{"pid of nobody", "GET", "/v1/process?pid=1999999999", 404, "no such process: 1999999999"},
		{"unknown type", "GET", "/v1/events?types=fork,born", 400, `event type \"born\": want one of fork, exec`},
		{"since is a word", "GET", "/v1/events?since=5m", 400, `since \"5m\": want nanoseconds since boot`},
		{"hostile pid", "GET", "/v1/process?pid=%1b%5b31m", 400, `pid \"\\x1b[31m\"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, text, err := d.ask(tt.method, tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if code != tt.code || !strings.Contains(text, tt.says) {
				t.Errorf("got %d %q, want %d %q", code, text, tt.code, tt.says)
			}
			if tt.says != "" && !json.Valid([]byte(text)) {
				t.Errorf("not JSON: %q", text)
			}
		})
	}
}

// Whom the daemon answers is decided by who connects, as the kernel knows it.
func TestPeerDecides(t *testing.T) {
	const group, nobody = 4711, 65534
	d := serve(t, fmt.Sprint(group))
	for _, tt := range []struct {
		name     string
		uid, gid int
		groups   []int
		code     int
	}{
		{"root", 0, 0, nil, 200},
		{"a stranger", nobody, nobody, nil, 403},
		{"a stranger in other groups", nobody, nobody, []int{1, 2, group + 1}, 403},
		{"by its group", nobody, group, nil, 200},
		{"by one of its groups", nobody, nobody, []int{1, group, 3}, 200},
		{"by one of many", nobody, nobody, append(make([]int, 200), group), 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			as(t, tt.uid, tt.gid, tt.groups, func() {
				for _, path := range []string{"/v1/status", "/v1/tree", "/v1/orphans", "/v1/events"} {
					code, text, err := d.ask("GET", path, nil)
					if err != nil || code != tt.code {
						t.Errorf("%s: got %d %q %v, want %d", path, code, text, err, tt.code)
					}
					if code == 403 && !strings.Contains(text, "permission denied: only root and the members of group 4711 may ask this") {
						t.Errorf("%s: says %q", path, text)
					}
				}
			})
		})
	}
}

// More connections than the daemon holds are closed at once, and when the others are
// gone it takes new ones.
func TestManyConnections(t *testing.T) {
	d := serve(t, "")
	conns := make([]net.Conn, 1000)
	for i := range conns {
		conns[i] = d.dial(t)
	}
	served := 0
	for _, c := range conns {
		if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			continue
		}
		if line, _ := bufio.NewReader(c).ReadString('\n'); strings.Contains(line, " 200 ") {
			served++
		}
	}
	if served == 0 || served > maxConns {
		t.Errorf("%d of %d connections at once were served, want 1 to %d", served, len(conns), maxConns)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	for deadline := time.Now().Add(patience); ; {
		_, err := d.client.Status(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer although all have left: %v", err)
		}
	}
}

func TestOneUserCannotTakeAllConnections(t *testing.T) {
	d := serve(t, "")
	conns := make(chan []net.Conn, 1)
	as(t, 65534, 65534, nil, func() {
		var held []net.Conn
		for range 3 * maxConnsOfUser {
			if c, err := net.Dial("unix", d.socket); err == nil {
				held = append(held, c)
			}
		}
		conns <- held
	})
	held := <-conns
	served := 0
	for _, c := range held {
		if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"); err == nil {
			if line, _ := bufio.NewReader(c).ReadString('\n'); strings.Contains(line, "403") {
				served++
			}
		}
	}
	if served != maxConnsOfUser {
		t.Errorf("%d connections of one user are served, want %d", served, maxConnsOfUser)
	}
	d.answers(t)
	for _, c := range held {
		_ = c.Close()
	}
}

// A reader that does not read misses events, is told how many, and holds up nobody.
func TestSlowReaderIsTold(t *testing.T) {
	d := serve(t, "")
	conn := d.dial(t)
	if _, err := io.WriteString(conn, "GET /v1/events?follow=1&types=fork HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	// More than the queue and any socket buffer hold.
	const total = 140000
	for i := 0; i < total; i += 1000 {
		d.fork(i+1, 1000)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := d.tracer.DoDrained(ctx, func(*tracker.Tree) {})
		if cancel(); err != nil {
			t.Fatalf("the tracer is held up after %d: %v", i, err)
		}
	}
	d.answers(t)

	_ = conn.SetDeadline(time.Now().Add(4 * patience))
	got, lost := uint64(0), uint64(0)
	for got+lost < total {
		line, err := r.ReadBytes('\n')
		if err != nil {
			t.Fatalf("after %d events and %d lost: %v", got, lost, err)
		}
		if bytes.Contains(line, []byte(`"type":"fork"`)) { // nearly all of them: no need to decode those
			got++
			continue
		}
		var e wire.Event
		if err := json.Unmarshal(line, &e); err != nil || e.Lost == nil || e.Lost.Records == 0 || e.Lost.SinceNS == 0 {
			t.Fatalf("%q: %v", line, err)
		}
		lost += e.Lost.Records
	}
	if got+lost != total || lost == 0 {
		t.Errorf("%d events and %d lost, want %d together", got, lost, total)
	}
}

func TestFollowGoesOnWhereThePastEnds(t *testing.T) {
	d := serve(t, "")
	d.fork(1, 10)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.tracer.DoDrained(ctx, func(*tracker.Tree) {}); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	next := int32(1<<23 + 1)
	err := d.client.Events(ctx, []string{wire.TypeFork}, 0, true, func(e *wire.Event) error {
		if e.Process.PID != next {
			return fmt.Errorf("got %d, want %d", e.Process.PID, next)
		}
		if next++; next == 1<<23+11 {
			d.fork(11, 10)
		}
		if next == 1<<23+21 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

// Readers that come while events come in between every two steps of their reception
// lose nothing and hold up nobody.
func TestFollowInAStorm(t *testing.T) {
	d := serve(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 1; ; i += 10 {
			select {
			case <-stop:
				return
			default:
				d.fork(i, 10)
				_ = d.tracer.DoDrained(ctx, func(*tracker.Tree) {})
			}
		}
	}()
	enough := errors.New("enough")
	for range 100 {
		last := uint64(0)
		err := d.client.Events(ctx, []string{wire.TypeFork}, boottime.Now(), true, func(e *wire.Event) error {
			if last != 0 && e.Seq != last+1 {
				return fmt.Errorf("%d follows %d", e.Seq, last)
			}
			if last = e.Seq; e.Seq%50 == 0 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatalf("got %v, want %v", err, enough)
		}
	}
	close(stop)
	<-stopped
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another daemon serves it") {
		t.Errorf("a second one: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = first.Close()
	second, err := Listen(path)
	if err != nil {
		t.Fatalf("what a dead daemon left: %v", err)
	}
	_ = second.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "something else is there") {
		t.Errorf("over a file: %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file was touched")
	}
}

// TestListenInForeignDirectory: nothing but the socket gets the socket's mode, whatever
// is planted in its place, and nobody else can replace it.
func TestListenInForeignDirectory(t *testing.T) {
	proctest.NeedRoot(t)
	dir, outside := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "outside")
	path := filepath.Join(dir, "s")
	err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 1000, 1000), os.WriteFile(outside, nil, 0o600), os.Symlink(outside, path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "something else is there") {
		t.Errorf("over a link: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	old := unix.Umask(0o077) // as in the unit
	l, err := Listen(path)
	if got := unix.Umask(old); got != 0o077 {
		t.Errorf("the umask became %o", got)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o666 {
		t.Errorf("socket: %v, %v", info, err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode() != 0o600 {
		t.Errorf("outside: %v, %v", info, err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(dir, "other")); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("in everyone's directory: %v", err)
	}
}

func TestNoDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), path) {
		t.Errorf("no socket: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("a dead daemon's socket: %v", err)
	}
}

func TestUnknownGroup(t *testing.T) {
	if _, err := NewServer(&trace.Tracer{}, "no-such-group-here", nil); err == nil || !strings.Contains(err.Error(), "no-such-group-here") {
		t.Errorf("got %v", err)
	}
}

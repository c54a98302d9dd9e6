// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come: long, for slow machines.
const patience = 30 * time.Second

// A source is a kernel that a test plays.
type source struct {
	mu      sync.Mutex
	waiting []event.Event
	tasks   []event.Task
	wake    chan struct{}
}

func (s *source) Read(limit int, fn func(*event.Event)) int {
	s.mu.Lock()
	batch := s.waiting[:min(limit, len(s.waiting))]
	s.waiting = s.waiting[len(batch):]
	s.mu.Unlock()
	for i := range batch {
		fn(&batch[i])
	}
	return len(batch)
}

func (s *source) Wait(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	}
	return nil
}

func (s *source) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *source) Tasks() ([]event.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tasks), nil
}

func (s *source) Usage() ([]event.Task, error) { return s.Tasks() }

func (s *source) Refused() uint64 { return 0 }

func (s *source) Pending() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.waiting))
}

func (s *source) StopReading()          {} // nobody is orphaned here
func (s *source) Mark() uint64          { return 0 }
func (s *source) Untouched(uint64) bool { return false }

// fork tells of n new processes, numbered from first, all of one parent.
func (s *source) fork(first, n int) {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = forked(0, first+i, "worker")
	}
	s.send(events...)
}

// proc is the identity of the nth process, which no real one has.
func proc(n int) event.ID { return event.ID{PID: int32(1<<23 + n), Start: uint64(n + 1)} }

func forked(parent, child int, comm string) event.Event {
	return event.Event{Kind: event.KindFork, Subject: proc(child), Comm: event.MakeComm(comm),
		Fork: event.Fork{Spawner: proc(parent), Caller: proc(parent)}}
}

func killed(n int, comm string) event.Event {
	return event.Event{Kind: event.KindExit, Subject: proc(n), Comm: event.MakeComm(comm),
		Exit: event.Exit{Status: 9, HasChildren: true, Adopter: proc(0), AdopterKind: event.AdopterInit}}
}

// send tells of events that happen now.
func (s *source) send(events ...event.Event) {
	s.mu.Lock()
	for _, e := range events {
		e.Time, e.HostPID = boottime.Now(), e.Subject.PID
		s.waiting = append(s.waiting, e)
	}
	s.mu.Unlock()
	s.Wake()
}

// A daemon is a server over a tracer over a source.
type daemon struct {
	*source
	tracer *trace.Tracer
	server *Server
	socket string
	client *Client
}

// serve runs a daemon whose socket is open to group until the test ends.
func serve(t *testing.T, group string) *daemon {
	t.Helper()
	return serveStalled(t, group, answerTimeout)
}

// serveStalled is serve where readers may take stall for a portion.
func serveStalled(t *testing.T, group string, stall time.Duration) *daemon {
	t.Helper()
	// Not t.TempDir: others than the owner must reach the socket.
	dir, err := os.MkdirTemp("", "abot-api-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	d := &daemon{source: &source{wake: make(chan struct{}, 1)}, socket: filepath.Join(dir, "s")}
	d.tracer = trace.New(d.source, trace.Options{Log: log})
	server, err := NewServer(d.tracer, group, log)
	if err != nil {
		t.Fatal(err)
	}
	server.stall, d.server = stall, server
	l, err := Listen(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- d.tracer.Run(ctx) }()
	go func() { done <- server.Serve(ctx, l) }()
	d.client = NewClient(d.socket)
	t.Cleanup(func() {
		d.client.http.CloseIdleConnections()
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("daemon: %v", err)
			}
		}
	})
	<-d.tracer.Ready()
	return d
}

// dial connects to the daemon and closes the connection when the test ends.
func (d *daemon) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// applied waits until the tracer has applied all events so far.
func (d *daemon) applied(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.tracer.DoDrained(ctx, func(*tracker.Tree) {}); err != nil {
		t.Fatal(err)
	}
}

// answers fails the test unless the daemon still answers.
func (d *daemon) answers(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := d.client.Status(ctx); err != nil {
		t.Errorf("the daemon does not answer any more: %v", err)
	}
}

// as runs fn in a thread that is another user, which dies with fn. It needs root,
// which CI must have.
func as(t *testing.T, uid, gid int, groups []int, fn func()) {
	t.Helper()
	proctest.NeedRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: nobody else may get this thread
		done <- become(uid, gid, groups)
		fn()
		close(done)
	}()
	if err := <-done; err != nil {
		t.Errorf("become %d: %v", uid, err)
	}
	<-done
}

// become changes the credentials of the calling thread alone.
func become(uid, gid int, groups []int) error {
	list := make([]uint32, len(groups))
	for i, g := range groups {
		list[i] = uint32(g)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(list)),
		uintptr(unsafe.Pointer(unsafe.SliceData(list))), 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	return nil
}

// ask sends one request over a connection that the calling goroutine makes itself, so
// that it is its thread's credentials that count.
func (d *daemon) ask(method, path string, body io.Reader) (int, string, error) {
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}
	req, err := http.NewRequest(method, "http://abot-trace"+path, body)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// SPDX-License-Identifier: Apache-2.0

package otherend

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// sleeper starts a process with the given files on 0, 1 and 2, kept open by nobody else
// that the test does not keep.
func sleeper(t *testing.T, stdin, stdout, stderr *os.File) event.ID {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return event.ID{PID: int32(cmd.Process.Pid)}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func socketpair(t *testing.T) (own, other *os.File) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	file := func(c net.Conn) *os.File {
		f, err := c.(*net.UnixConn).File()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		t.Cleanup(func() { f.Close() })
		return f
	}
	return file(client), file(server)
}

// until waits for the kernel to have closed what was closed: a dead child's are.
func until(t *testing.T, id event.ID, want [3]State) {
	t.Helper()
	var got [3]State
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if got, err = Stdio(id); err == nil && got == want {
			return
		}
	}
	t.Errorf("got %v, %v, want %v", got, err, want)
}

func TestPipes(t *testing.T) {
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	id := sleeper(t, inR, outW, nil)
	inR.Close()
	outW.Close()
	until(t, id, [3]State{Held, Held, NotAPipe})
	inW.Close()
	until(t, id, [3]State{Abandoned, Held, NotAPipe})
	outR.Close()
	until(t, id, [3]State{Abandoned, Abandoned, NotAPipe})
}

// TestSharedWriter: a pipe that another process holds has somebody at its other end, even
// where that one is its own sibling.
func TestSharedWriter(t *testing.T) {
	inR, inW := pipe(t)
	id := sleeper(t, inR, nil, nil)
	other := sleeper(t, nil, inW, nil)
	inR.Close()
	inW.Close()
	until(t, id, [3]State{Held, NotAPipe, NotAPipe})
	until(t, other, [3]State{NotAPipe, Held, NotAPipe})
}

func TestSockets(t *testing.T) {
	own, other := socketpair(t)
	id := sleeper(t, own, own, own)
	own.Close()
	until(t, id, [3]State{Held, Held, Held})
	other.Close()
	until(t, id, [3]State{Abandoned, Abandoned, Abandoned})
}

// TestListeningStdin: a socket that listens has no peer, and misses none.
func TestListeningStdin(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	id := sleeper(t, f, nil, nil)
	f.Close()
	until(t, id, [3]State{Held, NotAPipe, NotAPipe})
}

// TestDoesNotHold: what was borrowed is given back, or the other end would never learn.
func TestDoesNotHold(t *testing.T) {
	inR, inW := pipe(t)
	id := sleeper(t, inR, nil, nil)
	before := descriptors(t)
	for range 100 {
		if _, err := Stdio(id); err != nil {
			t.Fatal(err)
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
	inW.Close()
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestDead(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Stdio(event.ID{PID: int32(cmd.Process.Pid)}); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("got %v, want %v", err, procfs.ErrGone)
	}
	if _, err := Stdio(event.ID{PID: int32(os.Getpid()), Start: 1}); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("another process with the pid: got %v, want %v", err, procfs.ErrGone)
	}
}

func TestClient(t *testing.T) {
	self := event.ID{PID: int32(os.Getpid())}
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "a bus"), "@abot-trace test " + filepath.Base(t.TempDir()) + time.Now().String()} {
		l := listen(name)
		client, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		f, err := client.(*net.UnixConn).File()
		if err != nil {
			t.Fatal(err)
		}
		id := sleeper(t, f, nil, nil)
		stranger := sleeper(t, nil, nil, nil)
		if got, err := Client(id, self); !got || err != nil {
			t.Errorf("%s: client %v, %v", name, got, err)
		}
		if got, err := Client(stranger, self); got || err != nil {
			t.Errorf("%s: stranger %v, %v", name, got, err)
		}
		if got, err := Client(id, stranger); got || err != nil {
			t.Errorf("%s: of who does not listen %v, %v", name, got, err)
		}
		f.Close()
		client.Close()
	}
}

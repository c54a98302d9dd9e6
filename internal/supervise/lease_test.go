// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// fakeDaemon answers on a unix socket as the daemon does, and notes who asked.
type fakeDaemon struct {
	path string
	mu   sync.Mutex
	// descendants is what /v1/descendants answers.
	descendants []Descendant
	leases      []lease
	status      int    // what /v1/lease answers, if not 200
	refusal     string // with this body
}

type lease struct {
	pid  int32
	body map[string]any
}

type peerKey struct{}

// newDaemon starts a daemon that answers requests for a lease with status, and with refusal
// where status is not OK.
func newDaemon(t *testing.T, status int, refusal string) *fakeDaemon {
	t.Helper()
	d := &fakeDaemon{path: filepath.Join(t.TempDir(), "sock"), status: status, refusal: refusal}
	l, err := net.Listen("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/lease", d.lease)
	mux.HandleFunc("GET /v1/descendants", func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		json.NewEncoder(w).Encode(map[string]any{"processes": d.descendants})
	})
	server := &http.Server{Handler: mux, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, peerKey{}, peerPID(c))
	}}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return d
}

func peerPID(c net.Conn) (pid int32) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = cred.Pid
		}
	})
	return pid
}

func (d *fakeDaemon) lease(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := lease{pid: r.Context().Value(peerKey{}).(int32)}
	if err := json.NewDecoder(r.Body).Decode(&l.body); err != nil || d.status != http.StatusOK {
		w.WriteHeader(d.status)
		fmt.Fprint(w, d.refusal)
		return
	}
	d.leases = append(d.leases, l)
	fmt.Fprintf(w, `{"lease_id": "L%d"}`, len(d.leases))
}

func TestSuperviseTakesALease(t *testing.T) {
	d := newDaemon(t, http.StatusOK, "")
	s := start(t, options{Argv: []string{"sh", "-c", "echo up >&3; read x"}, Grace: 7500 * time.Millisecond, Socket: d.path})
	s.life.expect(t, "up")
	// The lease is there before CMD is.
	d.mu.Lock()
	leases := d.leases
	d.mu.Unlock()
	if len(leases) != 1 || int(leases[0].pid) != s.Process.Pid || leases[0].body["grace_seconds"] != 7.5 {
		t.Errorf("leases %v, want one of process %d with a grace of 7.5 s", leases, s.Process.Pid)
	}
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 128+15)
}

func TestRefusedLease(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"the daemon's sentence", `{"error":"no leases today"}`, "no lease: the daemon refused POST /v1/lease: no leases today\n"},
		{"something else", "<html>", `no lease: the daemon refused POST /v1/lease: 403 Forbidden: "<html>"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDaemon(t, http.StatusForbidden, tt.answer)
			s := start(t, options{Argv: []string{"true"}, Socket: d.path})
			s.wantEnd(t, ExitFailed)
			proctest.Eventually(t, "the message", func() bool { return strings.Contains(s.stderr.String(), tt.want) })
		})
	}
}

// What only the daemon knows to be of the tree ends with it; what it names by a
// wrong start, and our own ancestors, are not touched.
func TestLineageFromTheDaemon(t *testing.T) {
	d := newDaemon(t, http.StatusOK, "")
	outside := startSleep(t, "1111")
	reused := startSleep(t, "1112")
	s := start(t, options{Argv: []string{"sh", "-c", "echo up >&3; read x"}, Grace: time.Second, Socket: d.path})
	s.life.expect(t, "up")
	testRunner, err := descend.Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const tick = uint64(10 * time.Millisecond)
	d.mu.Lock()
	d.descendants = []Descendant{
		{PID: outside.PID, StartNS: outside.Start*tick + 12345},
		{PID: reused.PID, StartNS: (reused.Start - 1) * tick},
		{PID: testRunner.PID, StartNS: testRunner.Start * tick},
		{PID: 1, StartNS: 0},
	}
	d.mu.Unlock()
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 128+15)
	if p, err := descend.Read(outside.PID); err == nil && p.Alive() {
		t.Error("the lineage's process lives on")
	}
	if p, err := descend.Read(reused.PID); err != nil || !p.Alive() {
		t.Error("a process of another start was ended")
	}
}

// startSleep starts a child of the test, outside any supervised tree.
func startSleep(t *testing.T, seconds string) descend.Proc {
	t.Helper()
	cmd := exec.Command("sleep", seconds)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	p, err := descend.Read(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDial(t *testing.T) {
	dir := t.TempDir()
	listening := newDaemon(t, http.StatusOK, "").path
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	deserted := filepath.Join(dir, "deserted")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: deserted, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	none := filepath.Join(dir, "none")
	tests := []struct {
		name, path string
		required   bool
		client     bool
		err        string
	}{
		{"listening", listening, false, true, ""},
		{"listening, required", listening, true, true, ""},
		{"absent", none, false, false, ""},
		{"absent, required", none, true, false, "socket " + none + ": no such file or directory"},
		{"deserted", deserted, false, false, "socket " + deserted + ": connect: connection refused"},
		{"deserted, required", deserted, true, false, "socket " + deserted + ": connect: connection refused"},
		{"not a socket", plain, false, false, "socket " + plain + ": not a socket"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, err := Dial(tt.path, tt.required)
			if msg := errorText(err); msg != tt.err || (client != nil) != tt.client {
				t.Errorf("got client %v, %q; want %v, %q", client != nil, msg, tt.client, tt.err)
			}
		})
	}
}

// TestSilentDaemon proves that a daemon that does not answer is told as such.
func TestSilentDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", path) // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := Dial(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Lease(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "waited 1s for POST /v1/lease") {
		t.Errorf("got %v, want what was waited for", err)
	}
}

func TestDialRefusesAStrangersSocket(t *testing.T) {
	proctest.NeedRoot(t)
	path := newDaemon(t, http.StatusOK, "").path
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	for _, required := range []bool{false, true} {
		_, err := Dial(path, required)
		want := "socket " + path + ": it belongs to uid 12345, neither root nor uid 0"
		if errorText(err) != want {
			t.Errorf("got %q, want %q", errorText(err), want)
		}
	}
}

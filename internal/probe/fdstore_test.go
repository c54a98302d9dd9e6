// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A manager stands in for the service manager: it keeps what is sent to its socket.
type manager struct {
	conn  *net.UnixConn
	path  string
	names []string
	files []*os.File
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{conn: conn, path: path}
	t.Cleanup(func() {
		_ = conn.Close()
		for _, f := range m.files {
			_ = f.Close()
		}
	})
	return m
}

// receive takes the next message: FDSTORE=1 brings a descriptor, FDSTOREREMOVE=1 drops
// all of that name (sd_pid_notify_with_fds(3)).
func (m *manager) receive(t *testing.T) (message string) {
	t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
	n, rn, _, _, err := m.conn.ReadMsgUnix(text, rights)
	if err != nil {
		t.Fatal(err)
	}
	message = string(text[:n])
	fields := make(map[string]string)
	for _, line := range strings.Split(message, "\n") {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("message %q", message)
		}
		fields[key] = value
	}
	switch name := fields["FDNAME"]; {
	case fields["FDSTORE"] == "1":
		m.files, m.names = append(m.files, oneFile(t, rights[:rn])), append(m.names, name)
	case fields["FDSTOREREMOVE"] == "1":
		if rn != 0 {
			t.Errorf("a removal came with a descriptor")
		}
		for i := slices.Index(m.names, name); i >= 0; i = slices.Index(m.names, name) {
			_ = m.files[i].Close()
			m.files, m.names = slices.Delete(m.files, i, i+1), slices.Delete(m.names, i, i+1)
		}
	}
	return message
}

func oneFile(t *testing.T, rights []byte) *os.File {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		t.Fatalf("control messages: %v, %v", messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors: %v, %v", fds, err)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "stored")
}

// pipeEnd is a descriptor to store that needs no privilege.
type pipeEnd struct{ *os.File }

func (p pipeEnd) FD() int          { return int(p.Fd()) }
func (p pipeEnd) Pin(string) error { return errors.ErrUnsupported }

func TestFDStoreMessages(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	t.Setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
	s, err := NewFDStore()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := s.Keep("abot-x", pipeEnd{w}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := m.receive(t), "FDSTORE=1\nFDNAME=abot-x\nFDPOLL=0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// What arrived is the pipe itself.
	if _, err := m.files[0].WriteString("through\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(r).ReadString('\n'); line != "through\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if err := s.Drop("abot-x"); err != nil {
		t.Fatal(err)
	}
	if got, want := m.receive(t), "FDSTOREREMOVE=1\nFDNAME=abot-x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(m.files) != 0 {
		t.Errorf("still stored: %v", m.names)
	}
}

func TestFDStoreAlone(t *testing.T) {
	for name, env := range map[string][2]string{
		"nobody":             {"", ""},
		"a container engine": {"/run/notify", ""},
		"no notification":    {"", "0123456789abcdef0123456789abcdef"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", env[0])
			t.Setenv("INVOCATION_ID", env[1])
			if _, err := NewFDStore(); !errors.Is(err, ErrNoManager) {
				t.Errorf("got %v, want %v", err, ErrNoManager)
			}
		})
	}
}

// TestFDStoreContinue hands the descriptors to another process, as a restart does.
func TestFDStoreContinue(t *testing.T) {
	needRoot(t)
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	t.Setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
	s, err := NewFDStore()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(Options{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	for range len(p.now.links) + 2 {
		m.receive(t)
	}
	if err := errors.Join(p.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	gap := makeProcesses(t, 20)

	child := exec.Command(os.Args[0])
	child.ExtraFiles = m.files
	child.Env = append(os.Environ(), roleReader+"="+fromFDStore, roleForks+"="+strconv.Itoa(os.Getpid()),
		"LISTEN_FDS="+strconv.Itoa(len(m.files)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	seen := make(map[int32]int)
	for lines := bufio.NewScanner(out); seen[gap[19]] == 0 && lines.Scan(); {
		var pid int32
		if _, err := fmt.Sscanf(lines.Text(), "%d@", &pid); err != nil {
			t.Fatalf("line %q: %v", lines.Text(), err)
		}
		seen[pid]++
	}
	wantOnce(t, seen, gap)
}

// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// buildBinary builds the real binary: what starts and stops is measured on it.
func buildBinary(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "abot-trace")
	if out, err := exec.Command("go", "build", "-o", file, "../../cmd/abot-trace").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return file
}

// peer is a program that runs a command and forwards signals to it.
type peer struct {
	name string
	argv []string
}

// peers returns ours first, and those that are installed; in CI all must be.
func peers(t testing.TB) []peer {
	t.Helper()
	list := []peer{{"supervise", []string{buildBinary(t), "supervise", "--grace", "60s", "--"}}}
	for _, p := range []peer{{"tini -g", []string{"tini", "-g", "-s", "--"}}, {"dumb-init", []string{"dumb-init", "--"}}} {
		if _, err := exec.LookPath(p.argv[0]); err == nil {
			list = append(list, p)
		} else if os.Getenv("CI") != "" {
			t.Fatalf("%s must be installed in CI", p.argv[0])
		}
	}
	return list
}

// TestSuperviseBesidePeers produces the table of exit codes, signals, descendants
// and terminal behaviour beside tini and dumb-init, and checks our column.
func TestSuperviseBesidePeers(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	trap := func(sig string) string {
		return fmt.Sprintf("trap 'exit 9' %s; echo ready; while :; do sleep 0.05; done", sig)
	}
	rows := []struct {
		what string
		want string // of ours
		try  func(*testing.T, peer) string
	}{
		{"CMD exits with 7", "7", exits("sh", "-c", "exit 7")},
		{"CMD dies of SEGV", "139", exits("sh", "-c", "kill -SEGV $$")},
		{"not found", "127", exits("/no/such/command")},
		{"not executable", "126", exits(plain)},
		{"TERM, CMD exits with 9", "9", signalled(unix.SIGTERM, trap("TERM"))},
		{"INT, CMD exits with 9", "9", signalled(unix.SIGINT, trap("INT"))},
		{"HUP, CMD exits with 9", "9", signalled(unix.SIGHUP, trap("HUP"))},
		{"USR1, CMD exits with 9", "9", signalled(unix.SIGUSR1, trap("USR1"))},
		{"TERM, CMD has no handler", "143", signalled(unix.SIGTERM, "echo ready; exec sleep 600")},
		{"left after CMD's exit: child", "0", left(sleeper+" & read x", 0)},
		{"left after CMD's exit: setsid", "0", left("setsid "+sleeper+" & read x", 0)},
		{"left after CMD's exit: deaf", "0", left("trap '' TERM; "+sleeper+" & read x", 0, "--grace", "0s")},
		{"left after TERM: child", "0", left(sleeper+" & wait", unix.SIGTERM)},
		{"left after TERM: setsid", "0", left("setsid "+sleeper+" & wait", unix.SIGTERM)},
		{"left after TERM: double fork", "0", left("(setsid "+sleeper+" &) ; read x", unix.SIGTERM)},
		{"^C on a terminal", "130", onTerminal("\x03")},
		{"^Z on a terminal stops it", "stopped", onTerminal("\x1a")},
	}
	table := map[string][]string{}
	all := peers(t)
	for _, row := range rows {
		for i, p := range all {
			got := row.try(t, p)
			table[row.what] = append(table[row.what], got)
			if i == 0 && got != row.want {
				t.Errorf("%s: got %s, want %s", row.what, got, row.want)
			}
		}
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, p := range all {
		fmt.Fprintf(w, "\t%s", p.name)
	}
	fmt.Fprintln(w)
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\n", row.what, strings.Join(table[row.what], "\t"))
	}
	w.Flush()
	t.Logf("beside tini and dumb-init:\n%s", b.String())
}

// sleeper is a shell command that says when it has got to where it sleeps.
const sleeper = "sh -c 'echo ready; exec sleep 600'"

func exits(argv ...string) func(*testing.T, peer) string {
	return func(t *testing.T, p peer) string {
		return code(t, exec.Command(p.argv[0], append(p.argv[1:len(p.argv):len(p.argv)], argv...)...))
	}
}

// code runs cmd to its end and returns its exit code.
func code(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	if cmd.Process == nil {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	timer := time.AfterFunc(proctest.Patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signaled() {
		return unix.SignalName(s.Signal())
	}
	return fmt.Sprint(cmd.ProcessState.ExitCode())
}

// begin starts a script under p and waits until it says that it is ready.
func begin(t *testing.T, p peer, script string) (cmd *exec.Cmd, stdin *os.File) {
	t.Helper()
	cmd = exec.Command(p.argv[0], append(p.argv[1:len(p.argv):len(p.argv)], "sh", "-c", script)...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	input, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	cmd.Stdin, cmd.Stdout = input, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proctest.EndDescendants(t) })
	w.Close()
	input.Close()
	defer r.Close()
	if err := r.SetReadDeadline(time.Now().Add(proctest.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return cmd, stdin
}

func signalled(sig syscall.Signal, script string) func(*testing.T, peer) string {
	return func(t *testing.T, p peer) string {
		cmd, _ := begin(t, p, script)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		return code(t, cmd)
	}
}

// left counts the processes that live on after the supervisor has ended, by a
// signal or because CMD did when its input ended.
func left(script string, sig syscall.Signal, flags ...string) func(*testing.T, peer) string {
	return func(t *testing.T, p peer) string {
		if len(flags) > 0 && p.name == "supervise" {
			p.argv = append(append([]string{p.argv[0], "supervise"}, flags...), "--")
		}
		cmd, stdin := begin(t, p, script)
		if sig == 0 {
			stdin.Close()
		} else if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		code(t, cmd)
		// What was told to end may take a moment; what was not will not go. Only the
		// peers are waited for: ours leaves when all have gone.
		n := len(proctest.Descendants(t))
		for range 20 {
			if p.name == "supervise" || n == 0 {
				break
			}
			<-time.After(10 * time.Millisecond)
			n = len(proctest.Descendants(t))
		}
		proctest.EndDescendants(t)
		return fmt.Sprint(n)
	}
}

// onTerminal types a key at a supervised sleep in the foreground of a terminal
// and says what became of the supervisor.
func onTerminal(key string) func(*testing.T, peer) string {
	return func(t *testing.T, p peer) string {
		master, slave := proctest.OpenPTY(t)
		defer master.Close()
		// A shell above, in the same session, makes stopping possible.
		script := `set -m; "$@"; echo "code=$?"; kill -KILL $(jobs -p) 2>/dev/null; exit 0`
		args := append([]string{"-c", script, "sh"}, p.argv...)
		cmd := exec.Command("bash", append(args, "sh", "-c", "echo ready; exec sleep 600")...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		defer proctest.EndDescendants(t)
		screen := watch(master)
		screen.await("ready", proctest.Patience)
		if _, err := master.WriteString(key); err != nil {
			t.Fatal(err)
		}
		limit := proctest.Patience
		if p.name != "supervise" {
			limit = 2 * time.Second // it may never happen, and is only reported
		}
		if !screen.await("code=", limit) || !screen.await("\n", limit) {
			return "hangs"
		}
		text := screen.String()
		result := strings.TrimSpace(text[strings.LastIndex(text, "code=")+len("code="):])
		if result == "147" || result == "148" { // bash: 128 + SIGSTOP or SIGTSTP
			return "stopped"
		}
		return strings.Fields(result)[0]
	}
}

// screen collects what a terminal shows.
type screen struct {
	mu    sync.Mutex
	text  string
	more  chan struct{}
	ended bool
}

func watch(r io.Reader) *screen {
	s := &screen{more: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			s.mu.Lock()
			s.text += string(buf[:n])
			s.ended = err != nil
			s.mu.Unlock()
			select {
			case s.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// await waits until the text is shown.
func (s *screen) await(text string, limit time.Duration) bool {
	timeout := time.After(limit)
	for {
		s.mu.Lock()
		found, ended := strings.Contains(s.text, text), s.ended
		s.mu.Unlock()
		if found || ended {
			return found
		}
		select {
		case <-s.more:
		case <-timeout:
			return false
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestPythonModule ends the programs that use the module in every way, and wants nothing
// left: after kill -9 by the daemon, else by the module itself.
func TestPythonModule(t *testing.T) {
	proctest.NeedRoot(t)
	proctest.NeedProgram(t, "/usr/bin/gunicorn")
	module, err := filepath.Abs("../clients/python")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PYTHONPATH", module+":"+filepath.Join(module, "../../examples/testdata"))
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	t.Setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1") // a warning of each Jupyter kernel
	daemon := proctest.StartDaemon(t, "../cmd/abot-trace")
	t.Setenv("ABOT_TRACE_SOCKET", daemon.Socket)
	programs := []struct {
		name  string
		argv  []string
		ready int
		codes map[string]int
		said  string // at every end but KILL
	}{
		{"client", []string{"/usr/bin/python3", "client.py"}, 3, map[string]int{"TERM": -1, "INT": -1, "exception": 1, "exit": 3, "KILL": -1}, "sessions closed\ndatabase closed\n"},
		{"loader", []string{"/usr/bin/python3", "loader.py"}, 3, map[string]int{"TERM": -1, "INT": -1, "exception": 1, "exit": 3, "KILL": -1}, ""},
		{"gunicorn", []string{"/usr/bin/gunicorn", "--config", "gunicorn_hooks.py", "--workers", "2", "--timeout", "2", "--bind", "127.0.0.1:0", "app:wsgi"}, 2,
			map[string]int{"TERM": 0, "INT": 0, "QUIT": 0, "exception": 3, "exit": 3, "KILL": -1}, ""},
		{"celery", []string{"/usr/bin/python3", "-m", "celery", "--app", "jobs", "worker", "--pool", "prefork", "--concurrency", "2", "--without-gossip", "--without-mingle"}, 2,
			map[string]int{"TERM": 0, "INT": 0, "QUIT": 0, "exception": 0, "exit": 0, "KILL": -1}, ""},
		{"kernel", []string{"/usr/bin/python3", "kernel.py"}, 1, map[string]int{"TERM": -1, "INT": -1, "exception": 1, "exit": 3, "KILL": -1}, ""},
	}
	for _, p := range programs {
		for way, code := range p.codes {
			t.Run(fmt.Sprint(p.name, " ", way), func(t *testing.T) {
				sig := unix.SignalNum("SIG" + way)
				argv, asked := p.argv, ""
				if sig == 0 {
					asked = way
				}
				if last := len(argv) - 1; sig == 0 && strings.HasSuffix(argv[last], ".py") {
					argv = append(argv[:last:last], argv[last], way)
				}
				t.Setenv("EXAMPLE_WAY", asked) // of those in testdata
				t.Setenv("JOBS_FOLDER", t.TempDir())
				s := startBesideDaemon(t, daemon, argv)
				s.ready(t, p.ready)
				if sig == 0 {
					fmt.Fprintln(s.input)
				} else if err := s.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if got := s.code(t); got != code {
					t.Errorf("exit code %d, want %d", got, code)
				}
				// All that it has started holds its output.
				said, err := io.ReadAll(s.lines)
				if err != nil {
					t.Errorf("somebody still holds the output: %v", err)
				}
				if way == "exception" && !strings.Contains(string(said), "Traceback") {
					t.Errorf("it told of no exception: %q", said)
				}
				if way != "KILL" && !strings.Contains(string(said), p.said) {
					t.Errorf("it did not say %q but %q", p.said, said)
				}
			})
		}
	}
}

// TestPageShowsTheClient wants the program of docs/prevention.md to be the one that is run.
func TestPageShowsTheClient(t *testing.T) {
	page, err := os.ReadFile("../docs/prevention.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("client.py")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "```python\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatal("the page shows no Python")
	}
	for line := range strings.Lines(block) {
		if !strings.Contains(string(program), line) {
			t.Errorf("the page shows a line that client.py has not: %s", line)
		}
	}
}

// besideDaemon is an example that runs beside a daemon, which is a child of the test, too.
type besideDaemon struct {
	*running
	input *os.File
}

func startBesideDaemon(t *testing.T, daemon proctest.Daemon, argv []string) besideDaemon {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	output, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := besideDaemon{&running{exec.Command(argv[0], argv[1:]...), output, bufio.NewReader(output)}, write}
	s.Stdin, s.Stdout, s.Stderr = read, stdout, stdout
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := output.SetReadDeadline(time.Now().Add(proctest.Patience)); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	read.Close()
	stdout.Close()
	t.Cleanup(func() {
		err := descend.Walk(os.Getpid(), func(p descend.Proc) bool {
			if p.PID != daemon.PID {
				_ = descend.Signal(p, unix.SIGKILL)
			}
			return p.PID != daemon.PID
		})
		if err != nil {
			t.Error(err)
		}
		write.Close()
		output.Close()
	})
	return s
}

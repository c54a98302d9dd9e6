// SPDX-License-Identifier: Apache-2.0

// Package examples_test runs the examples under supervise and wants nothing left.
package examples_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
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

// The test is a subreaper, so that it sees, and ends, whatever is left.
func TestMain(m *testing.M) {
	if err := proctest.Adopt(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestExamples(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "abot-trace")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/abot-trace").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	type example struct {
		name  string
		argv  []string
		ready int // how many processes say that they are ready
		code  int
		check func(*testing.T, []string)
	}
	examples := []example{
		{"pipeline", []string{"sh", "pipeline.sh"}, 3, 128 + 15, nil},
		{"prefork", []string{"python3", "prefork.py", "127.0.0.1:0"}, 3, 0, answers},
		{"cluster", []string{"node", "cluster.js"}, 3, 128 + 15, nil},
	}
	for _, kind := range []string{"process", "pool", "executor", "stubborn"} {
		for _, method := range []string{"fork", "spawn", "forkserver"} {
			examples = append(examples, example{"worker " + kind + " " + method,
				[]string{"python3", "worker.py", kind, method}, 3, 128 + 15, nil})
		}
	}
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			proctest.NeedProgram(t, e.argv[0])
			grace := "60s"
			if strings.Contains(e.name, "stubborn") {
				grace = "300ms"
			}
			s := start(t, append([]string{binary, "supervise", "--grace", grace, "--"}, e.argv...))
			said := s.ready(t, e.ready)
			if e.check != nil {
				e.check(t, said)
			}
			if err := s.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if got := s.code(t); got != e.code {
				t.Errorf("exit code %d, want %d", got, e.code)
			}
			left, err := descend.List(os.Getpid())
			if err != nil || len(left) > 0 {
				t.Errorf("left: %+v, %v", left, err)
			}
			s.nobodyHoldsOutput(t)
			noSharedMemory(t, said)
		})
	}
}

// running is a supervised example; everything in it holds its output.
type running struct {
	*exec.Cmd
	output *os.File
	lines  *bufio.Reader
}

func start(t *testing.T, argv []string) *running {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &running{exec.Command(argv[0], argv[1:]...), r, bufio.NewReader(r)}
	s.Stdout, s.Stderr = w, w
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := r.SetReadDeadline(time.Now().Add(proctest.Patience)); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		proctest.EndDescendants(t)
		r.Close()
	})
	return s
}

// ready waits for n lines "ready" and returns the others.
func (s *running) ready(t *testing.T, n int) (said []string) {
	t.Helper()
	for n > 0 {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%d are not ready: %v after %q", n, err, said)
		}
		if line = strings.TrimSpace(line); line == "ready" {
			n--
		} else {
			said = append(said, line)
		}
	}
	return said
}

func (s *running) code(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(proctest.Patience, func() { s.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := s.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return s.ProcessState.ExitCode()
}

// nobodyHoldsOutput reads to the end of file, which comes when all are gone.
func (s *running) nobodyHoldsOutput(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, s.lines); err != nil {
		t.Errorf("somebody still holds the output: %v", err)
	}
}

// answers checks that the prefork server serves.
func answers(t *testing.T, said []string) {
	t.Helper()
	for _, line := range said {
		port, ok := strings.CutPrefix(line, "listening on ")
		if !ok {
			continue
		}
		client := http.Client{Timeout: proctest.Patience}
		resp, err := client.Get("http://127.0.0.1:" + port)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %s", resp.Status)
		}
		return
	}
	t.Errorf("no port in %q", said)
}

// noSharedMemory wants the segment unlinked: the resource tracker did its work.
func noSharedMemory(t *testing.T, said []string) {
	t.Helper()
	for _, line := range said {
		if name, ok := strings.CutPrefix(line, "shared memory "); ok {
			file := filepath.Join("/dev/shm", name)
			if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", file, err)
				os.Remove(file)
			}
		}
	}
}

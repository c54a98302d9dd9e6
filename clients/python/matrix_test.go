// SPDX-License-Identifier: Apache-2.0

// Package python_test runs the Python module: its own tests, and programs that use it
// and are ended in every way.
package python_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

var all = flag.Bool("all", false, "run every combination of the matrix, not a covering part")

// A combination is one run of testdata/program.py.
type combination struct{ method, kind, way, child string }

func (c combination) String() string {
	return strings.Join([]string{c.method, c.kind, c.way, c.child}, " ")
}

// daemon reports whether the program runs beside a daemon.
func (c combination) daemon() bool { return strings.HasSuffix(c.way, " with daemon") }

// uncovered reports whether the documentation says that registered children survive.
func (c combination) uncovered() bool { return c.way == "KILL" || c.way == "os._exit" }

var (
	methods  = []string{"fork", "spawn", "forkserver"}
	kinds    = []string{"process", "pool", "executor", "popen"}
	ways     = []string{"TERM", "INT", "exception", "sys.exit", "return", "os._exit", "KILL", "TERM with daemon", "os._exit with daemon", "KILL with daemon"}
	children = []string{"plain", "deaf", "forking", "setsid"}
)

// together are combinations of which a part in which every two values meet can lack one that
// matters: workers that ignore SIGTERM and share memory with a main process that is gone at once.
var together = []combination{
	{"fork", "pool", "KILL with daemon", "deaf"},
	{"fork", "executor", "os._exit with daemon", "deaf"},
}

// combinations returns all of them, or a part in which every two values meet.
func combinations() (list []combination) {
	for _, m := range methods {
		for _, k := range kinds {
			if k == "popen" && m != methods[0] {
				continue // it has no start method
			}
			for _, w := range ways {
				for _, c := range children {
					list = append(list, combination{m, k, w, c})
				}
			}
		}
	}
	if *all {
		return list
	}
	return covering(list)
}

// covering picks, after those of together, one by one the combination with most pairs that have
// not met.
func covering(list []combination) (part []combination) {
	met := map[[2]string]bool{}
	fresh := func(c combination) (pairs [][2]string) {
		values := []string{"method " + c.method, "kind " + c.kind, "way " + c.way, "child " + c.child}
		for i := range values {
			for j := i + 1; j < len(values); j++ {
				if p := [2]string{values[i], values[j]}; !met[p] {
					pairs = append(pairs, p)
				}
			}
		}
		return pairs
	}
	for _, c := range together {
		for _, p := range fresh(c) {
			met[p] = true
		}
		part = append(part, c)
	}
	for {
		best := slices.MaxFunc(list, func(a, b combination) int { return len(fresh(a)) - len(fresh(b)) })
		pairs := fresh(best)
		if len(pairs) == 0 {
			return part
		}
		for _, p := range pairs {
			met[p] = true
		}
		part = append(part, best)
	}
}

// TestMatrix wants nothing to survive, and no shared memory to be left, but where the
// documentation says so.
func TestMatrix(t *testing.T) {
	for _, in := range interpreters(t) {
		t.Run(in.name, func(t *testing.T) {
			socket := proctest.StartDaemon(t, "../../cmd/abot-trace").Socket
			for _, c := range combinations() {
				t.Run(c.String(), func(t *testing.T) {
					t.Parallel()
					run(t, in, c, socket)
				})
			}
		})
	}
}

func run(t *testing.T, in interpreter, c combination, socket string) {
	way, _, _ := strings.Cut(c.way, " with daemon")
	p := startProgram(t, in, c, socket)
	p.ready(t, c)
	switch way {
	case "TERM", "INT", "KILL":
		if err := p.cmd.Process.Signal(unix.SignalNum("SIG" + way)); err != nil {
			t.Fatal(err)
		}
	default:
		fmt.Fprintln(p.stdin)
	}
	if got, want := p.code(t), map[string]int{"TERM": 143, "INT": 130, "KILL": 137, "exception": 1, "sys.exit": 3, "os._exit": 4}[way]; got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
	if c.uncovered() {
		if !strings.Contains(p.said(t), "kill -9 of this process leaves its children behind") {
			t.Error("it was not said that nothing covers this")
		}
		p.killMarked(t)
	}
	// The helpers of multiprocessing end by themselves, a moment later.
	proctest.Eventually(t, "nothing survives", func() bool { return len(p.marked(t)) == 0 })
	if callback := strings.Contains(p.rest(), "callback"); callback != (way != "KILL" && way != "os._exit") {
		t.Errorf("the callback ran: %v", callback)
	}
	proctest.Eventually(t, "the shared memory is gone", func() bool {
		_, err := os.Stat(filepath.Join("/dev/shm", p.segment))
		return errors.Is(err, os.ErrNotExist)
	})
}

// program is a running testdata/program.py. All of its processes carry its mark.
type program struct {
	cmd     *exec.Cmd
	mark    string
	stdin   io.WriteCloser
	output  *os.File
	lines   *bufio.Reader
	stderr  *os.File // a file: survivors hold it, too
	segment string
}

func startProgram(t *testing.T, in interpreter, c combination, socket string) *program {
	t.Helper()
	mark := "ABOT_TRACE_TEST=" + strings.ReplaceAll(t.Name(), " ", "_")
	way, _, _ := strings.Cut(c.way, " with daemon")
	argv := append(slices.Clone(in.argv), in.inside("testdata/program.py"), c.method, c.kind, way, c.child)
	p := &program{cmd: exec.Command(argv[0], argv[1:]...), mark: mark}
	if !c.daemon() {
		socket = "/nonexistent/abot-trace.sock"
	}
	p.cmd.Env = append(os.Environ(), mark, "PYTHONPATH="+in.inside(""), "PYTHONDONTWRITEBYTECODE=1", "ABOT_TRACE_SOCKET="+socket)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.output, p.lines = read, bufio.NewReader(read)
	if p.stderr, err = os.Create(filepath.Join(t.TempDir(), "stderr")); err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = write, p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := read.SetReadDeadline(time.Now().Add(proctest.Patience)); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		p.killMarked(t)
		if t.Failed() {
			text, _ := os.ReadFile(p.stderr.Name())
			t.Logf("stderr: %s", text)
		}
		read.Close()
		p.stderr.Close()
	})
	return p
}

func (p *program) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.stderr.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ready waits until every worker is where it stays.
func (p *program) ready(t *testing.T, c combination) {
	t.Helper()
	workers := 2
	if c.child == "setsid" {
		workers = 4
	}
	for workers > 0 || p.segment == "" {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%d workers are not ready: %v", workers, err)
		}
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "shared memory "); ok {
			p.segment = name
		} else if line == "ready" {
			workers--
		}
	}
}

// code waits for the end of the program itself, 128+n where signal n ended it.
func (p *program) code(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(proctest.Patience, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// rest returns what was said up to now, and afterwards by survivors.
func (p *program) rest() string {
	text, _ := io.ReadAll(p.lines)
	return string(text)
}

// marked returns the living processes of the program.
func (p *program) marked(t *testing.T) (procs []descend.Proc) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		env, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(env, []byte(p.mark+"\x00")) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(name, "/proc/%d/environ", &pid); err != nil {
			t.Fatal(err)
		}
		if proc, err := descend.Read(pid); err == nil && proc.Alive() {
			procs = append(procs, proc)
		}
	}
	return procs
}

// killMarked ends what is left, the resource tracker by its own means.
func (p *program) killMarked(t *testing.T) {
	t.Helper()
	proctest.Eventually(t, "what is left ends", func() bool {
		left := p.marked(t)
		for _, proc := range left {
			args, err := descend.Cmdline(proc.PID)
			if err == nil && !strings.Contains(strings.Join(args, " "), "multiprocessing.resource_tracker") {
				_ = descend.Signal(proc, unix.SIGKILL)
			}
		}
		return len(left) == 0
	})
}

// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// The test binary is also the supervisor under test and the programs that it
// supervises (see tester_test.go). The test itself is a child subreaper, so that
// it sees, and ends, whatever a test leaves behind.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "supervise":
			os.Exit(superviseMain(os.Args[2]))
		case "stage":
			code, err := ExecStage(os.Args[2:])
			fmt.Fprintln(os.Stderr, err)
			os.Exit(code)
		case "tester":
			testerMain(os.Args[2:])
			os.Exit(0)
		}
	}
	if err := proctest.Adopt(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// options are a Config that travels in an argument.
type options struct {
	Argv               []string
	Grace, HookTimeout time.Duration
	First              First
	BeforeTerm, OnExit [][]string
	Keep               string
	Cgroup, ReportOnly bool
	Timeout            time.Duration
	FailOnLeak         bool
	Verbose            bool
	Summary            string // a file
	Limits, Socket     string
	KillPatience       time.Duration
}

func superviseMain(arg string) int {
	var o options
	if err := json.Unmarshal([]byte(arg), &o); err != nil {
		panic(err)
	}
	cfg := Config{
		Argv: o.Argv, Grace: o.Grace, First: o.First, HookTimeout: o.HookTimeout,
		BeforeTerm: o.BeforeTerm, OnExit: o.OnExit, Cgroup: o.Cgroup, ReportOnly: o.ReportOnly,
		killPatience: o.KillPatience, Timeout: o.Timeout, FailOnLeak: o.FailOnLeak, Verbose: o.Verbose,
		Stage:  []string{os.Args[0], "stage"},
		Report: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
	if o.Keep != "" {
		cfg.Keep = []*regexp.Regexp{regexp.MustCompile(o.Keep)}
	}
	if o.Summary != "" {
		file, err := os.Create(o.Summary)
		if err != nil {
			panic(err)
		}
		defer file.Close()
		cfg.Summary = file
	}
	if o.Limits != "" {
		limits, err := ParseLimits(o.Limits)
		if err != nil {
			panic(err)
		}
		cfg.Limits = limits
	}
	if o.Socket != "" {
		client, err := Dial(o.Socket, true)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return ExitFailed
		}
		cfg.Leaser, cfg.LeaseRequired = client, true
	}
	code, err := Run(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// lifeline is a pipe whose write end, descriptor 3, is held by the supervisor
// and everything below it: testers write a line when they are ready, and its end
// of file proves that not one of them lives.
type lifeline struct {
	read  *os.File
	write *os.File
	lines chan string
}

func newLifeline(t testing.TB) *lifeline {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &lifeline{r, w, make(chan string, 1024)}
	go func() {
		defer close(l.lines)
		for scan := bufio.NewScanner(r); scan.Scan(); {
			l.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() { r.Close() })
	return l
}

// next returns the next line; ok is false at the end of file.
func (l *lifeline) next(t testing.TB) (line string, ok bool) {
	t.Helper()
	select {
	case line, ok = <-l.lines:
		return line, ok
	case <-time.After(proctest.Patience):
		t.Fatal("no line and no end on the lifeline: a process lives on, or never got ready")
		return "", false
	}
}

// expect waits for each of the lines, in any order.
func (l *lifeline) expect(t testing.TB, lines ...string) {
	t.Helper()
	missing := map[string]int{}
	for _, line := range lines {
		missing[line]++
	}
	for len(missing) > 0 {
		line, ok := l.next(t)
		if !ok {
			t.Fatalf("everything ended; never came: %v", missing)
		}
		if missing[line]--; missing[line] == 0 {
			delete(missing, line)
		} else if missing[line] < 0 {
			t.Fatalf("line %q, waiting for %v", line, missing)
		}
	}
}

// rest returns the lines up to the end of file.
func (l *lifeline) rest(t testing.TB) (lines []string) {
	t.Helper()
	for {
		line, ok := l.next(t)
		if !ok {
			return lines
		}
		lines = append(lines, line)
	}
}

// supervised is a running supervisor under test.
type supervised struct {
	*exec.Cmd
	life   *lifeline
	stdin  io.Closer
	stdout *output
	stderr *output

	stderrRead *os.File
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func start(t testing.TB, o options) *supervised {
	t.Helper()
	if o.HookTimeout == 0 {
		o.HookTimeout = proctest.Patience
	}
	if o.First == "" {
		o.First = FirstAll
	}
	arg, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, self(t), "supervise", string(arg))
}

// startCommand starts any supervisor with a lifeline as descriptor 3.
func startCommand(t testing.TB, argv ...string) *supervised {
	t.Helper()
	s := &supervised{Cmd: exec.Command(argv[0], argv[1:]...), life: newLifeline(t)}
	s.ExtraFiles = []*os.File{s.life.write}
	// Files, not writers: Wait must not wait for survivors that hold a pipe open.
	s.stdout, s.Stdout, _ = outputFile(t)
	s.stderr, s.Stderr, s.stderrRead = outputFile(t)
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Not StdinPipe, which Wait closes: CMD may outlive its supervisor.
	stdin, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.Stdin, s.stdin = stdin, w
	t.Cleanup(func() { w.Close() })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	s.life.write.Close()
	stdin.Close()
	closeFile(s.Stdout)
	closeFile(s.Stderr)
	t.Cleanup(func() {
		proctest.EndDescendants(t)
		if t.Failed() {
			t.Logf("stdout: %s\nstderr: %s", s.stdout, s.stderr)
		}
	})
	return s
}

func closeFile(w io.Writer) { w.(*os.File).Close() }

func outputFile(t testing.TB) (o *output, w, r *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o = &output{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(o, r)
	}()
	t.Cleanup(func() { r.Close(); <-done })
	return o, w, r
}

func (s *supervised) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// code waits for the supervisor's end and returns its exit code, 128+n when
// signal n ended it.
func (s *supervised) code(t testing.TB) int {
	t.Helper()
	timer := time.AfterFunc(proctest.Patience, func() {
		s.Process.Kill()
	})
	defer timer.Stop()
	var exit *exec.ExitError
	if err := s.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status := s.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// wantEnd waits for the end and checks the code, and that nothing is left.
func (s *supervised) wantEnd(t testing.TB, code int) {
	t.Helper()
	if got := s.code(t); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	s.life.rest(t)
}

func self(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// tester is the argv of a tester program.
func tester(t testing.TB, args ...string) []string {
	return append([]string{self(t), "tester"}, args...)
}

func contains(t testing.TB, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s: got %q, want it to contain %q", what, text, want)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func quoteJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// SPDX-License-Identifier: Apache-2.0

package shutdown

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// The test binary is also the program under test: "program MODE". The test is a
// subreaper, so that it can end whatever is left behind.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		program(os.Args[2])
	}
	if err := proctest.Adopt(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// escapes is a child's script that makes one descendant of each kind; each holds
// descriptor 3 and sleeps for a number of seconds that names it.
const escapes = `
	sleep 1001 &
	setsid sleep 1002 &
	(sleep 1003 &)
	(setsid sleep 1004 &)
	(env -i setsid sleep 1005 &)
	sh -c 'trap "" TERM; sleep 1006 & echo ready >&3; wait' &
	setsid sh -c 'sh -c "sleep 1007 & wait" & wait' &
	echo ready >&3
	wait`

var sleeps = []string{"1001", "1002", "1003", "1004", "1005", "1006", "1007"}

func program(mode string) {
	opts := Options{Grace: 300 * time.Millisecond, Subreaper: mode == "subreaper"}
	if mode == "stubborn" || mode == "deaf" {
		opts.Grace, opts.CallbackTimeout = time.Hour, time.Hour
	}
	g, err := New(context.Background(), opts)
	if err != nil {
		panic(err)
	}
	life := os.NewFile(3, "lifeline")
	cmd := exec.Command("sh", "-c", escapes)
	if mode == "stubborn" || mode == "deaf" {
		cmd = exec.Command("sh", "-c", "trap '' TERM; echo ready >&3; echo ready >&3; while :; do sleep 0.05; done")
	}
	cmd.ExtraFiles = []*os.File{life}
	if err := g.Start(cmd); err != nil {
		panic(err)
	}
	g.Defer("say", func(context.Context) error {
		fmt.Fprintln(life, "callback")
		return nil
	})
	<-g.Context().Done()
	fmt.Fprintln(life, "cancelled")
	if mode == "deaf" {
		select {} // it never Closes
	}
	if err := g.Close(); err != nil {
		fmt.Fprintln(life, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	os.Exit(g.ExitCode())
}

// running is a program under test.
type running struct {
	*exec.Cmd
	lines chan string // what was written to descriptor 3; closed when nobody holds it
}

func run(t *testing.T, mode string) *running {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &running{exec.Command(exe, "program", mode), make(chan string, 64)}
	p.ExtraFiles, p.Stderr = []*os.File{w}, os.Stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		proctest.EndDescendants(t)
		r.Close()
	})
	p.expect(t, "ready")
	p.expect(t, "ready")
	return p
}

// next returns the next line, or "" when nobody holds the lifeline any more.
func (p *running) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(proctest.Patience):
		t.Fatal("nothing happens on the lifeline")
		return ""
	}
}

func (p *running) expect(t *testing.T, want string) {
	t.Helper()
	if got := p.next(t); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func (p *running) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (p *running) wantState(t *testing.T, want string) {
	t.Helper()
	if err := p.Wait(); err == nil || err.Error() != want {
		t.Errorf("ended with %v, want %s", err, want)
	}
}

// sleeping returns which of the escapes run below the test.
func sleeping(t *testing.T) (seconds []string) {
	t.Helper()
	procs, err := descend.List(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if args, _ := descend.Cmdline(p.PID); len(args) == 2 && args[0] == "sleep" {
			seconds = append(seconds, args[1])
		}
	}
	slices.Sort(seconds)
	return seconds
}

func waitForEscapes(t *testing.T) {
	t.Helper()
	proctest.Eventually(t, "all escapes run", func() bool { return slices.Equal(sleeping(t), sleeps) })
}

// TestSubreaper wants every descendant gone, whatever it did to get away.
func TestSubreaper(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			p := run(t, "subreaper")
			waitForEscapes(t)
			p.signal(t, sig)
			p.expect(t, "cancelled")
			p.expect(t, "callback")
			p.expect(t, "")
			p.wantState(t, fmt.Sprintf("exit status %d", 128+sig))
		})
	}
}

// TestWithoutSubreaper wants the one survivor that the documentation names: an
// orphan with an emptied environment.
func TestWithoutSubreaper(t *testing.T) {
	p := run(t, "plain")
	waitForEscapes(t)
	p.signal(t, unix.SIGTERM)
	p.expect(t, "cancelled")
	p.expect(t, "callback")
	p.wantState(t, "exit status 143")
	if left := sleeping(t); !slices.Equal(left, []string{"1005"}) {
		t.Errorf("left %v, want only 1005", left)
	}
}

func TestSecondSignalForces(t *testing.T) {
	p := run(t, "stubborn")
	p.signal(t, unix.SIGTERM)
	p.expect(t, "cancelled")
	p.signal(t, unix.SIGINT)
	p.expect(t, "forced by a second signal; forced by a second signal: 1 callbacks did not run")
	p.expect(t, "")
	p.wantState(t, "exit status 143")
}

func TestSecondSignalEndsADeafProgram(t *testing.T) {
	p := run(t, "deaf")
	p.signal(t, unix.SIGTERM)
	p.expect(t, "cancelled")
	p.signal(t, unix.SIGTERM)
	p.expect(t, "")
	p.wantState(t, "signal: terminated")
}

func TestCallbacks(t *testing.T) {
	g, err := New(context.Background(), Options{CallbackTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	note := func(name string) { order = append(order, name) }
	failure := errors.New("disk full")
	g.Defer("first", func(ctx context.Context) error {
		note("first")
		if ctx.Err() != nil {
			t.Error("the callback's context ended with the group's")
		}
		return nil
	})
	g.Defer("failing", func(context.Context) error { note("failing"); return failure })
	g.Defer("panicking", func(context.Context) error { note("panicking"); panic("oh") })
	release := make(chan struct{})
	defer close(release)
	g.Defer("hanging", func(context.Context) error { <-release; return nil })
	g.Defer("last", func(context.Context) error { note("last"); return nil })

	err = g.Close()
	if got := strings.Join(order, " "); got != "last panicking failing first" {
		t.Errorf("order %q", got)
	}
	var p *PanicError
	if !errors.Is(err, failure) || !errors.As(err, &p) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v lacks one of the three failures", err)
	}
	if p != nil && !strings.Contains(string(p.Stack), "TestCallbacks") {
		t.Errorf("the panic's stack does not lead to it:\n%s", p.Stack)
	}
	if again := g.Close(); !errors.Is(again, failure) {
		t.Errorf("second Close: %v", again)
	}
	g.Defer("late", func(context.Context) error { t.Error("it ran after Close"); return nil })
	if err := g.Start(exec.Command("true")); !errors.Is(err, ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
	if g.ExitCode() != 0 {
		t.Errorf("exit code %d without a signal", g.ExitCode())
	}
}

// A child that ended long ago is forgotten: its pid may be somebody else's.
func TestEndedChildIsForgotten(t *testing.T) {
	g, err := New(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for range 5 {
		cmd := exec.Command("true")
		if err := g.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.children.registered); n > 1 {
		t.Errorf("%d children registered, want only the last", n)
	}
	if err := g.Start(exec.Command("/no/such/command")); err == nil {
		t.Error("a command that does not exist started")
	}
}

// A subreaper reaps what it adopts while it runs, and leaves registered children
// to their Wait.
func TestAdoptedZombiesAreReaped(t *testing.T) {
	g, err := New(context.Background(), Options{Subreaper: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	cmd := exec.Command("sh", "-c", "for i in 1 2 3 4 5; do (setsid true &); done; exit 3")
	if err := g.Start(cmd); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "only the registered child is a zombie", func() bool {
		zombies, err := descend.Zombies(os.Getpid())
		living, lerr := descend.List(os.Getpid())
		return err == nil && lerr == nil && len(living) == 0 && len(zombies) == 1 && zombies[0].PID == cmd.Process.Pid
	})
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 3" {
		t.Errorf("Wait: %v, want exit status 3", err)
	}
}

// TestCloseWaits wants no look at every environment while children take their time.
func TestCloseWaits(t *testing.T) {
	g, err := New(t.Context(), Options{Grace: proctest.Patience})
	if err != nil {
		t.Fatal(err)
	}
	ready, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	for range 3 {
		child := exec.Command("sh", "-c", "trap 'sleep 0.4; exit' TERM; echo ready; while :; do sleep 0.05; done")
		child.Stdout = write
		if err := g.Start(child); err != nil {
			t.Fatal(err)
		}
		go child.Wait()
	}
	write.Close()
	lines := bufio.NewReader(ready)
	for range 3 {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	// Two at the beginning, one when all have ended, and one more where that finds what
	// a child has just forked.
	if g.children.looks > 4 {
		t.Errorf("every environment was read %d times", g.children.looks)
	}
}

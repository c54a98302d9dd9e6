// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A world is the namespace of a test, seen as one tree: everything in it but its
// init, the test itself and who is spared.
//
// As an Identity it knows starts to the tick only. That is enough where no pid is
// reused within 10 ms; the tests that reuse pids have an exact one, see reuse_test.go.
type world struct {
	testing.TB
	fs procfs.FS

	mu     sync.Mutex
	spared map[int32]error
	// recheck, if set, is asked before every signal.
	recheck func(event.ID, unix.Signal) error
	members int // calls of Members
	// others, if set, tells who else of the leak lives.
	others func() []event.ID
}

func newWorld(tb testing.TB) *world {
	return &world{TB: tb, spared: map[int32]error{}}
}

func (w *world) enforcer() *Enforcer {
	return &Enforcer{Identity: w, Tree: w, Protector: w, Journal: Dir(w.TempDir())}
}

func (w *world) spare(pid int32, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spared[pid] = why
}

func tickStart(st procfs.Stat) uint64 { return st.StartTicks * 10_000_000 }

// id is the identity of a living process.
func (w *world) id(pid int32) event.ID {
	w.Helper()
	st, err := w.fs.Stat(pid)
	if err != nil {
		w.Fatal(err)
	}
	return event.ID{PID: pid, Start: tickStart(st)}
}

func (w *world) Starts(pids []int32) (map[int32]uint64, error) {
	starts := make(map[int32]uint64)
	for _, pid := range pids {
		st, err := w.fs.Stat(pid)
		if errors.Is(err, procfs.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		starts[pid] = tickStart(st)
	}
	return starts, nil
}

func (w *world) Members(context.Context, *Request) ([]Target, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members++
	return w.living()
}

// living lists the processes of the namespace that may be ended.
func (w *world) living() (targets []Target, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		pid, err := strconv.ParseInt(entry.Name(), 10, 32)
		if err != nil || pid == 1 || int(pid) == os.Getpid() {
			continue
		}
		if _, spared := w.spared[int32(pid)]; spared {
			continue
		}
		if target, ok := w.target(int32(pid)); ok {
			targets = append(targets, target)
		}
	}
	return targets, nil
}

func (w *world) target(pid int32) (Target, bool) {
	p, err := w.fs.Open(pid)
	if err != nil {
		return Target{}, false
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil || st.Dead() {
		return Target{}, false
	}
	t := Target{ID: event.ID{PID: pid, Start: tickStart(st)}, Comm: st.Comm.String()}
	if status, err := p.Status(); err == nil {
		t.RSS, t.Swap = &status.RSS, &status.Swap
	}
	args, _, _ := p.Cmdline()
	t.Last = ResourceTracker(args)
	return t, true
}

// targets is living, for a request.
func (w *world) targets() []Target {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	targets, err := w.living()
	if err != nil {
		w.Fatal(err)
	}
	return targets
}

// Others implements Tree.
func (w *world) Others(context.Context, *Request) ([]event.ID, error) {
	if w.others == nil {
		return nil, nil
	}
	return w.others(), nil
}

func (w *world) Recheck(_ context.Context, _ *Request, id event.ID, sig unix.Signal) error {
	if w.recheck == nil {
		return nil
	}
	return w.recheck(id, sig)
}

func (w *world) Protected(t Target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.spared[t.ID.PID]
}

// start starts a tester that says ready, and reaps it when it ends.
func (w *world) start(role string, args ...string) int32 {
	w.Helper()
	pid, line := w.startSaying(role, args...)
	if line != "ready" {
		w.Fatalf("%s says %q, want ready", role, line)
	}
	return pid
}

func (w *world) startSaying(role string, args ...string) (pid int32, line string) {
	w.Helper()
	cmd, line, err := startTester(role, args...)
	if err != nil {
		w.Fatal(err)
	}
	go cmd.Wait()
	return int32(cmd.Process.Pid), line
}

// startOwn is start for a test outside of a namespace: the tester ends with it.
func (w *world) startOwn(role string) int32 {
	w.Helper()
	cmd, line, err := startTester(role)
	if err != nil || line != "ready" {
		w.Fatalf("%s says %q, %v", role, line, err)
	}
	w.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return int32(cmd.Process.Pid)
}

// request is an enforcing one for the whole tree.
func (w *world) request(grace time.Duration) Request {
	return Request{KillID: "k1", Rule: "test", Mode: wire.ModeEnforce, Scope: wire.ScopeTree,
		Verdict: wire.VerdictLeaked, Grace: grace, Targets: w.targets()}
}

// eventually waits for a condition that nothing announces.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("not so after 30 s: %s", what)
		}
	}
}

// empty checks that nothing of the tree is left.
func (w *world) empty() {
	w.Helper()
	if left := w.targets(); len(left) > 0 {
		w.Errorf("still there: %+v", left)
	}
}

func (w *world) state(pid int32) byte {
	st, err := w.fs.Stat(pid)
	if err != nil {
		return 0
	}
	return st.State
}

// runs reports whether the process is neither stopped nor dead.
func (w *world) runs(pid int32) bool {
	state := w.state(pid)
	return state == 'S' || state == 'R' || state == 'D'
}

func (w *world) parent(pid int32) int32 {
	st, err := w.fs.Stat(pid)
	if err != nil {
		return 0
	}
	return st.PPID
}

// check compares a kill's outcome and how many of its processes had which outcome.
func (w *world) check(k wire.Kill, outcome string, want map[string]int) {
	w.Helper()
	got := map[string]int{}
	for _, p := range k.Processes {
		got[p.Outcome]++
	}
	same := len(got) == len(want)
	for outcome, n := range want {
		same = same && got[outcome] == n
	}
	if k.Outcome != outcome || !same {
		w.Errorf("got %s %v, want %s %v\n%+v", k.Outcome, got, outcome, want, k)
	}
}

func ignore(sig os.Signal) { signal.Ignore(sig) }

func notify(sig os.Signal) <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sig)
	return c
}

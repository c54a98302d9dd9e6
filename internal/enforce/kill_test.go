// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// longGrace is one that a test must not wait out.
const longGrace = time.Hour

func TestObeyingTree(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "3", "obey")
		kill := w.enforcer().Do(context.Background(), w.request(longGrace))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 4})
		w.empty()
		if kill.Signal != "SIGTERM" || kill.FreedBytes == 0 || kill.GraceSeconds != 3600 || kill.KillID != "k1" {
			t.Errorf("got %+v", kill)
		}
		for _, p := range kill.Processes {
			if p.Signal != "SIGTERM" || p.WaitMS <= 0 || p.RSSBytes == nil {
				t.Errorf("got %+v", p)
			}
		}
	})
}

func TestGrace(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "2", "ignore")
		const grace = 300 * time.Millisecond
		kill := w.enforcer().Do(context.Background(), w.request(grace))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 3})
		w.empty()
		for _, p := range kill.Processes {
			switch {
			case p.Signal == "SIGTERM": // the one that obeyed
			case p.Signal != "SIGKILL" || p.WaitMS < 300:
				t.Errorf("got %+v, want SIGKILL after the grace", p)
			}
		}
		if kill.Signal != "SIGKILL" {
			t.Errorf("got %s, want SIGKILL", kill.Signal)
		}
	})
}

func TestNoGrace(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("ignore")
		kill := w.enforcer().Do(context.Background(), w.request(0))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 1})
		w.empty()
	})
}

// TestRespawn: what a process leaves behind when it is ended is part of its tree.
func TestRespawn(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("respawn")
		kill := w.enforcer().Do(context.Background(), w.request(longGrace))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 3})
		w.empty()
	})
}

func TestSwarm(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("swarm")
		kill := w.enforcer().Do(context.Background(), w.request(20*time.Millisecond))
		w.empty()
		if kill.Outcome != wire.KillDone {
			t.Errorf("got %+v", kill)
		}
	})
}

// TestFreeze begins with everything stopped: all get SIGTERM before one reacts.
func TestFreeze(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "3", "obey")
		stopped := 0
		journal := &spyJournal{Dir: Dir(t.TempDir())}
		w.recheck = func(id event.ID, sig unix.Signal) error {
			if sig != unix.SIGTERM {
				return nil
			}
			for _, target := range w.targets() {
				if !journal.ids[target.ID] {
					t.Errorf("%s is not in the journal at the first SIGTERM", target.ID)
				}
				w.eventually("all are stopped before SIGTERM", func() bool { return w.state(target.ID.PID) == 'T' })
				stopped++
			}
			return nil
		}
		e := w.enforcer()
		e.Journal = journal
		w.check(e.Do(context.Background(), w.request(longGrace)), wire.KillDone, map[string]int{wire.OutcomeDied: 4})
		if stopped != 16 {
			t.Errorf("looked at %d stopped processes, want 4 times 4", stopped)
		}
		if files, _ := os.ReadDir(string(journal.Dir)); len(files) != 0 {
			t.Errorf("the journal still has %v", files)
		}
	})
}

type spyJournal struct {
	Dir
	ids map[event.ID]bool
}

func (j *spyJournal) Stopping(killID string, ids []event.ID) error {
	j.ids = map[event.ID]bool{}
	for _, id := range ids {
		j.ids[id] = true
	}
	return j.Dir.Stopping(killID, ids)
}

// TestJournalRefuses: what cannot be written down is not stopped, but ended.
func TestJournalRefuses(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "2", "obey")
		e := w.enforcer()
		e.Journal = Dir("/nonexistent")
		w.recheck = func(_ event.ID, sig unix.Signal) error {
			if sig == unix.SIGSTOP {
				t.Error("SIGSTOP without a journal")
			}
			return nil
		}
		kill := e.Do(context.Background(), w.request(longGrace))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 3})
		if !strings.Contains(kill.Reason, "not stopped first: ") {
			t.Errorf("reason: got %q", kill.Reason)
		}
	})
}

// TestHalted: a process that somebody has stopped still gets to handle SIGTERM.
func TestHalted(t *testing.T) {
	inNamespace(t, func(w *world) {
		pid := w.start("halt")
		w.eventually("it is stopped", func() bool { return w.state(pid) == 'T' })
		kill := w.enforcer().Do(context.Background(), w.request(longGrace))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 1})
		w.empty()
	})
}

// TestCancel lets go in the middle: what we stopped runs, what others had stopped
// does not, nobody has died.
func TestCancel(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "2", "obey")
		halted := w.start("halt")
		w.eventually("it is stopped", func() bool { return w.state(halted) == 'T' })
		ctx, cancel := context.WithCancel(context.Background())
		stops := 0
		w.recheck = func(_ event.ID, sig unix.Signal) error {
			if sig != unix.SIGSTOP {
				t.Errorf("asks for %v after the context's end", sig)
			}
			if stops++; stops == 3 {
				cancel()
			}
			return nil
		}
		kill := w.enforcer().Do(ctx, w.request(longGrace))
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeRefused: 4})
		left := w.targets()
		if len(left) != 4 {
			t.Errorf("got %d survivors, want 4", len(left))
		}
		for _, target := range left {
			if want := target.ID.PID == halted; want {
				if w.state(halted) != 'T' {
					t.Error("what others had stopped runs")
				}
				continue
			}
			w.eventually("it runs", func() bool { return w.runs(target.ID.PID) })
		}
	})
}

// TestCancelWaiting ends the context during the grace.
func TestCancelWaiting(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("ignore")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan wire.Kill)
		w.recheck = func(event.ID, unix.Signal) error { cancel(); return nil }
		go func() { done <- w.enforcer().Do(ctx, w.request(longGrace)) }()
		kill := <-done
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeRefused: 1})
		if len(kill.Processes) == 1 && kill.Processes[0].Error != "context canceled" {
			t.Errorf("got %+v", kill.Processes[0])
		}
	})
}

func TestZombie(t *testing.T) {
	inNamespace(t, func(w *world) {
		parent, line := w.startSaying("negligent")
		child, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		w.spare(parent, errors.New("spared"))
		kill := w.enforcer().Do(context.Background(), w.request(longGrace))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeZombie: 1})
		want := fmt.Sprintf("not reaped by pid %d (", parent)
		if p := kill.Processes[0]; p.PID != int32(child) || !strings.HasPrefix(p.Error, want) || p.Signal != "SIGTERM" {
			t.Errorf("got %+v, want an error of %q", p, want)
		}
		// Once more: it was dead before we came.
		req := w.request(longGrace)
		req.Targets = []Target{{ID: w.id(int32(child))}}
		kill = w.enforcer().Do(context.Background(), req)
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeZombie: 1})
		if p := kill.Processes[0]; p.Signal != "" || kill.FreedBytes != 0 {
			t.Errorf("got %+v, want no signal and nothing freed", kill)
		}
	})
}

// TestHeadless: a process lives on without its leading thread. It is not the zombie
// that it looks like.
func TestHeadless(t *testing.T) {
	inNamespace(t, func(w *world) {
		pid := w.start("headless")
		w.eventually("its leading thread has ended", func() bool { return w.state(pid) == 'Z' })
		kill := w.enforcer().Do(context.Background(), w.request(time.Millisecond))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 1})
		if p := kill.Processes[0]; p.Signal != "SIGKILL" {
			t.Errorf("got %+v", p)
		}
		w.empty()
	})
}

// TestUninterruptible holds a process in its exit, by a tracer that lets it go no
// further: like one that waits for a dead file server, it does not die of SIGKILL.
func TestUninterruptible(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "1", "ignore")
		e := w.enforcer()
		e.KillWait = 100 * time.Millisecond
		req := w.request(time.Millisecond)
		victim := req.Targets[slices.IndexFunc(req.Targets, func(t Target) bool {
			return w.parent(t.ID.PID) != int32(os.Getpid())
		})].ID.PID

		runtime.LockOSThread() // the tracer is a thread
		defer runtime.UnlockOSThread()
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(victim), 0, unix.PTRACE_O_TRACEEXIT, 0, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
		kill := e.Do(context.Background(), req)
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeDied: 1, wire.OutcomeUninterruptible: 1})
		for _, p := range kill.Processes {
			if p.PID == victim && (p.Signal != "SIGKILL" || p.Error != "in state t 100ms after SIGKILL") {
				t.Errorf("got %+v", p)
			}
		}
		if err := unix.PtraceDetach(int(victim)); err != nil {
			t.Fatal(err)
		}
		w.eventually("it is let go and dies", func() bool { return len(w.targets()) == 0 })
	})
}

// TestRefused has a killer that may not: one try each, told with its errno.
func TestRefused(t *testing.T) {
	inNamespace(t, func(w *world) {
		victim := w.id(w.start("obey"))
		_, line := w.startSaying("refused", strconv.Itoa(int(victim.PID)), strconv.FormatUint(victim.Start, 10))
		var kill wire.Kill
		if err := json.Unmarshal([]byte(line), &kill); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeRefused: 1})
		if p := kill.Processes[0]; p.Error != "SIGTERM: operation not permitted" || p.Signal != "" {
			t.Errorf("got %+v", p)
		}
		if !w.runs(victim.PID) {
			t.Error("the victim does not run")
		}
	})
}

// alone is a Tree of nothing but the request, without protection.
type alone struct{ rechecks int }

func (*alone) Members(context.Context, *Request) ([]Target, error)    { return nil, nil }
func (a *alone) Others(context.Context, *Request) ([]event.ID, error) { return nil, nil }

func (a *alone) Recheck(context.Context, *Request, event.ID, unix.Signal) error {
	a.rechecks++
	return nil
}
func (*alone) Protected(Target) error { return nil }

func killAsNobody(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	start, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	const nobody = 65534
	if err := syscall.Setreuid(nobody, nobody); err != nil {
		return err
	}
	tree := &alone{}
	e := Enforcer{Identity: &world{}, Tree: tree, Protector: tree}
	kill := e.Do(context.Background(), Request{Mode: wire.ModeEnforce, Scope: wire.ScopeTree, Grace: longGrace,
		Targets: []Target{{ID: event.ID{PID: int32(pid), Start: start}}}})
	if tree.rechecks != 1 {
		return fmt.Errorf("%d tries, want 1", tree.rechecks)
	}
	return json.NewEncoder(os.Stdout).Encode(kill)
}

func TestObserve(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "3", "obey")
		req := w.request(longGrace)
		for _, mode := range []string{wire.ModeObserve, "", "Enforce"} {
			req.Mode = mode
			kill := w.enforcer().Do(context.Background(), req)
			w.check(kill, wire.KillObserved, map[string]int{wire.OutcomeWouldKill: 4})
			if kill.FreedBytes != 0 {
				t.Errorf("got %d bytes freed by looking", kill.FreedBytes)
			}
		}
		for _, target := range w.targets() {
			if !w.runs(target.ID.PID) {
				t.Errorf("%s is in state %c", target.ID, w.state(target.ID.PID))
			}
		}
	})
}

// TestObserveAsEnforce: both ask the same questions and come to the same processes.
func TestObserveAsEnforce(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "3", "obey")
		spared := w.start("obey")
		targets := w.targets()
		w.spare(spared, errors.New("spared"))
		ended := func(mode string) string {
			req := w.request(longGrace)
			req.Mode, req.Targets = mode, targets
			var names []string
			for _, p := range w.enforcer().Do(context.Background(), req).Processes {
				names = append(names, fmt.Sprint(p.PID, p.Outcome == wire.OutcomeRefused, p.Error))
			}
			return strings.Join(names, "\n")
		}
		if observed, enforced := ended(wire.ModeObserve), ended(wire.ModeEnforce); observed != enforced {
			t.Errorf("observed:\n%s\nenforced:\n%s", observed, enforced)
		}
	})
}

func TestScopeProcess(t *testing.T) {
	inNamespace(t, func(w *world) {
		root := w.start("tree", "2", "obey")
		req := w.request(longGrace)
		req.Scope, req.Targets = wire.ScopeProcess, []Target{{ID: w.id(root)}}
		w.check(w.enforcer().Do(context.Background(), req), wire.KillDone, map[string]int{wire.OutcomeDied: 1})
		if w.members != 0 || len(w.targets()) != 2 {
			t.Errorf("asked for members %d times, %d are left, want 0 and 2", w.members, len(w.targets()))
		}
	})
}

// TestLate: who has died by itself is not ours, and frees nothing.
func TestLate(t *testing.T) {
	inNamespace(t, func(w *world) {
		pid := w.start("obey")
		req := w.request(longGrace)
		unix.Kill(int(pid), unix.SIGKILL)
		w.eventually("it is gone", func() bool { _, err := w.fs.Stat(pid); return errors.Is(err, procfs.ErrGone) })
		kill := w.enforcer().Do(context.Background(), req)
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeVanished: 1})
		if kill.FreedBytes != 0 || kill.Processes[0].Signal != "" {
			t.Errorf("got %+v", kill)
		}
	})
}

func TestCheck(t *testing.T) {
	requireRoot(t)
	a := Check()
	if errors.Is(a.Release, unix.ENOSYS) {
		a.Release = nil // before Linux 5.15
	}
	if a != (Ability{}) {
		t.Errorf("got %+v, want everything", a)
	}
	if err := tryPID(int32(os.Getpid()), func(int) error { return unix.EPERM }); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want the refusal", err)
	}
}

func TestRelease(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := pidfdOpen(int32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cmd.Wait()
	switch err := mrelease(fd); {
	case errors.Is(err, unix.ESRCH):
	case errors.Is(err, unix.ENOSYS):
		t.Log("this kernel, before 5.15, has no process_mrelease")
	default:
		t.Errorf("a dead process: got %v, want ESRCH", err)
	}
	mreleaseAll([]int{fd, -1}) // must neither close ours nor care
	if !ended(fd) {
		t.Error("the pidfd is not ours any more")
	}
}

func TestResourceTracker(t *testing.T) {
	const code = "from multiprocessing.resource_tracker import main;main(5)"
	for name, tt := range map[string]struct {
		args []string
		want bool
	}{
		"it":                 {[]string{"/usr/bin/python3", "-c", code}, true},
		"before Python 3.8":  {[]string{"python3", "-c", "from multiprocessing.semaphore_tracker import main;main(5)"}, true},
		"joblib":             {[]string{"python3", "-c", "from joblib.externals.loky.backend.resource_tracker import main; main(5, False)"}, true},
		"billiard":           {[]string{"python3", "-c", "from billiard.semaphore_tracker import main;main(5)"}, true},
		"another main":       {[]string{"python3", "-c", "from app.tracker import main;main()"}, false},
		"with flags":         {[]string{"python3", "-E", "-s", "-c", code}, true},
		"a spawned worker":   {[]string{"python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()", "--multiprocessing-fork"}, false},
		"its name as a file": {[]string{"python3", "from multiprocessing.resource_tracker import main"}, false},
		"no code":            {[]string{"python3", "-c"}, false},
		"nothing":            {nil, false},
	} {
		if got := ResourceTracker(tt.args); got != tt.want {
			t.Errorf("%s: got %t, want %t", name, got, tt.want)
		}
	}
}

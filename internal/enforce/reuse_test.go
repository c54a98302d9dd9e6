// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A reuser has one process at a time on one pid, a victim or an innocent one, and
// replaces it at the moment that a test picks. It is an exact Identity: as it makes
// all the processes that ever have the pid, it numbers them, and the number is the
// start. Ticks would not do: several of them live and die within one.
type reuser struct {
	*world
	pid        int
	generation uint64
}

// reusedPID is far from those that the namespace hands out by itself.
const reusedPID = 20_000

func newReuser(w *world) *reuser { return &reuser{world: w, pid: reusedPID} }

// next starts a process on the pid. The kernel gives it out again only because
// it is told so: a number below it was the last. On a slow machine it was once not to be
// had within a hundred attempts, so it goes by the clock.
func (r *reuser) next(argv ...string) event.ID {
	r.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		last := []byte(strconv.Itoa(r.pid - 1))
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", last, 0); err != nil {
			r.Fatal(err)
		}
		pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ()})
		if err != nil {
			r.Fatal(err)
		}
		if pid == r.pid {
			r.generation++
			return event.ID{PID: int32(pid), Start: r.generation}
		}
		// A thread of ours was faster. Ours to end: it is our child, not yet waited for.
		r.end(pid)
	}
	r.Fatalf("pid %d is not to be had", r.pid)
	return event.ID{}
}

// end kills and reaps a child of ours.
func (r *reuser) end(pid int) {
	r.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		r.Fatal(err)
	}
	r.reap(pid)
}

func (r *reuser) reap(pid int) {
	r.Helper()
	for {
		_, err := syscall.Wait4(pid, nil, 0, nil)
		if err == nil {
			return
		}
		if err != syscall.EINTR {
			r.Fatal(err)
		}
	}
}

// swap puts an innocent process in the place of the one that has the pid.
func (r *reuser) swap() {
	r.Helper()
	r.end(r.pid)
	r.next("/bin/sleep", "600")
}

// untouched reports whether the process on the pid has neither died nor been
// stopped or continued.
func (r *reuser) untouched() bool {
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(r.pid, &status, syscall.WNOHANG|syscall.WUNTRACED|syscall.WCONTINUED, nil)
	if err != nil {
		r.Fatal(err)
	}
	return pid == 0
}

func (r *reuser) Starts(pids []int32) (map[int32]uint64, error) {
	return map[int32]uint64{int32(r.pid): r.generation}, nil
}

// stubborn starts a victim that ignores SIGTERM.
func (r *reuser) stubborn() event.ID {
	id := r.next("/bin/sh", "-c", "trap '' TERM; exec sleep 600")
	r.eventually("it ignores SIGTERM", func() bool {
		st, err := r.fs.Stat(id.PID)
		return err == nil && st.Ignores(unix.SIGTERM) && st.Comm.String() == "sleep"
	})
	return id
}

// early is an Identity that swaps before it looks, late one that does so after.
type (
	early struct{ *reuser }
	late  struct{ *reuser }
)

func (e early) Starts(pids []int32) (map[int32]uint64, error) {
	e.swap()
	return e.reuser.Starts(pids)
}

func (l late) Starts(pids []int32) (map[int32]uint64, error) {
	starts, err := l.reuser.Starts(pids)
	l.swap()
	return starts, err
}

// windows are the moments of a kill at which the victim's pid can change hands.
var windows = []struct {
	name string
	want string // outcome of the victim
	set  func(*reuser, *Enforcer)
	late bool // after SIGTERM
}{
	{"before the pidfd is opened", wire.OutcomeIdentityChanged, func(r *reuser, _ *Enforcer) { r.swap() }, false},
	{"between pidfd and identity", wire.OutcomeIdentityChanged, func(r *reuser, e *Enforcer) { e.Identity = early{r} }, false},
	{"right after the identity is read", wire.OutcomeVanished, func(r *reuser, e *Enforcer) { e.Identity = late{r} }, false},
	{"between identity and SIGTERM", wire.OutcomeVanished, func(r *reuser, _ *Enforcer) {
		r.recheck = func(event.ID, unix.Signal) error { r.swap(); return nil }
	}, false},
	{"between SIGTERM and SIGKILL", wire.OutcomeDied, func(r *reuser, _ *Enforcer) {
		r.recheck = func(_ event.ID, sig unix.Signal) error {
			if sig == unix.SIGKILL {
				r.swap()
			}
			return nil
		}
	}, true},
}

// TestReuse forces 1,000 reuses of the victim's pid, at every moment of a kill, and
// looks for a signal at the innocent process each time.
func TestReuse(t *testing.T) {
	inNamespace(t, func(w *world) {
		r := newReuser(w)
		wrong := 0
		for i := range 1000 {
			window := windows[i%len(windows)]
			r.recheck = nil
			e := &Enforcer{Identity: r, Tree: r, Protector: r, ReapWait: time.Nanosecond}
			var victim event.ID
			if window.late {
				victim = r.stubborn()
			} else {
				victim = r.next("/bin/sleep", "600")
			}
			window.set(r, e)
			kill := e.Do(context.Background(), Request{Mode: wire.ModeEnforce, Scope: wire.ScopeProcess,
				Grace: time.Millisecond, Targets: []Target{{ID: victim}}})
			w.check(kill, wire.KillDone, map[string]int{window.want: 1})
			if r.generation%2 != 0 {
				t.Fatalf("%s: the pid did not change hands", window.name)
			}
			if !r.untouched() {
				wrong++
				t.Errorf("%s: the innocent was signalled", window.name)
				continue
			}
			r.end(r.pid)
		}
		t.Logf("%d reuses of pid %d, %d wrong signals", r.generation/2, r.pid, wrong)
	})
}

// TestReuseIsCaught proves that TestReuse can fail: a killer that checks as well and
// as late, but signals by pid, hits the innocent every time, and it shows.
func TestReuseIsCaught(t *testing.T) {
	inNamespace(t, func(w *world) {
		r := newReuser(w)
		for range 20 {
			victim := r.next("/bin/sleep", "600")
			if starts, _ := r.Starts([]int32{victim.PID}); starts[victim.PID] != victim.Start {
				t.Fatal("the naive check does not even pass")
			}
			r.swap()
			if err := unix.Kill(int(victim.PID), unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			w.eventually("the wrong SIGSTOP shows", func() bool { return !r.untouched() })
			if err := unix.Kill(int(victim.PID), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			w.eventually("the wrong SIGKILL shows", func() bool { return !r.untouched() })
			if err := unix.Kill(int(victim.PID), 0); !errors.Is(err, unix.ESRCH) {
				t.Fatalf("got %v, want the innocent dead and reaped", err)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestSpares has every reason of this package's own for not signalling a process
// that a request names. Each is refused with its reason, runs on, and keeps nothing
// else from being ended.
func TestSpares(t *testing.T) {
	denied := errors.New("permission denied")
	for _, tt := range []struct {
		name, want string
		set        func(*world, *Enforcer, *Target)
	}{
		{"pid 1", "it is pid 1", func(w *world, _ *Enforcer, t *Target) { t.ID = w.id(1) }},
		{"pid 0", "it is pid 1", func(_ *world, _ *Enforcer, t *Target) { t.ID.PID = 0 }},
		{"a process group", "it is pid 1", func(_ *world, _ *Enforcer, t *Target) { t.ID.PID = -t.ID.PID }},
		{"itself", "it is the killer or an ancestor of the killer",
			func(w *world, _ *Enforcer, t *Target) { t.ID = w.id(int32(os.Getpid())) }},
		{"ancestors cannot be told", "own ancestors: pid ", func(_ *world, e *Enforcer, _ *Target) {
			e.FS = garbage(t)
		}},
		{"start not known", "its exact start is not known", func(_ *world, _ *Enforcer, t *Target) { t.ID.Start = 0 }},
		{"identity cannot be told", "identity: permission denied",
			func(_ *world, e *Enforcer, _ *Target) { e.Identity = failing{denied} }},
		{"protected", "protected: it is the MainPID", func(w *world, _ *Enforcer, t *Target) {
			w.spare(t.ID.PID, errors.New("it is the MainPID"))
		}},
		{"no longer matched", "it has a living owner", func(w *world, _ *Enforcer, t *Target) {
			id := t.ID
			w.recheck = func(asked event.ID, _ unix.Signal) error {
				if asked == id {
					return errors.New("it has a living owner")
				}
				return nil
			}
		}},
		{"probe fails at the last moment", "permission denied", func(w *world, _ *Enforcer, _ *Target) {
			w.recheck = func(event.ID, unix.Signal) error { return denied }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spares(t, tt.want, tt.set)
		})
	}
}

// spares runs in the test's own process and only ever on children of its own: the
// point of it is that nothing is signalled, also not outside of a namespace.
func spares(t *testing.T, want string, set func(*world, *Enforcer, *Target)) {
	w := newWorld(t)
	pid := w.startOwn("obey")
	target := Target{ID: w.id(pid)}
	e := &Enforcer{Identity: w, Tree: w, Protector: w, Journal: Dir(t.TempDir())}
	set(w, e, &target)
	kill := e.Do(context.Background(), Request{Mode: wire.ModeEnforce, Scope: wire.ScopeProcess,
		Grace: longGrace, Targets: []Target{target}})
	w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeRefused: 1})
	if p := kill.Processes[0]; !strings.HasPrefix(p.Error, want) || p.Signal != "" {
		t.Errorf("got %+v, want %q", p, want)
	}
	if !w.runs(pid) {
		t.Errorf("the process is in state %q", w.state(pid))
	}
}

// garbage is a procfs that makes no sense of us.
func garbage(t *testing.T) procfs.FS {
	t.Helper()
	root := t.TempDir()
	own := filepath.Join(root, strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "stat"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	return procfs.FS{Root: root}
}

type failing struct{ err error }

func (f failing) Starts([]int32) (map[int32]uint64, error) { return nil, f.err }

// TestSparedOne: one refusal in a tree keeps the others from nothing.
func TestSparedOne(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "3", "obey")
		spared := w.start("obey")
		req := w.request(longGrace)
		w.spare(spared, errors.New("spared"))
		kill := w.enforcer().Do(context.Background(), req)
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeDied: 4, wire.OutcomeRefused: 1})
		w.empty()
		if !w.runs(spared) {
			t.Error("the spared one does not run")
		}
	})
}

// TestAncestors has a killer that is told to end its own parent, as happened to
// those who killed the tree that they ran in.
func TestAncestors(t *testing.T) {
	inNamespace(t, func(w *world) {
		_, line := w.startSaying("child")
		var kill wire.Kill
		if err := json.Unmarshal([]byte(line), &kill); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeRefused: 1})
		if p := kill.Processes[0]; p.PID != int32(os.Getpid()) || p.Error != errSelf.Error() {
			t.Errorf("got %+v", p)
		}
	})
}

func killOwnParent() error {
	w := newWorld(nil)
	st, err := w.fs.Stat(int32(os.Getppid()))
	if err != nil {
		return err
	}
	tree := &alone{}
	e := Enforcer{Identity: w, Tree: tree, Protector: tree}
	kill := e.Do(context.Background(), Request{Mode: wire.ModeEnforce, Scope: wire.ScopeTree,
		Targets: []Target{{ID: event.ID{PID: st.PID, Start: tickStart(st)}}}})
	return json.NewEncoder(os.Stdout).Encode(kill)
}

// TestFormerAncestor has a kill meet a process with the pid of an ancestor of the killer: it is
// ended where the ancestor was another one, which is dead, and refused where it is that one.
func TestFormerAncestor(t *testing.T) {
	for _, test := range []struct {
		name    string
		later   uint64 // how many ticks the process is younger than the ancestor was
		outcome string
		member  string
	}{
		{"its pid has another by now", 1, wire.KillDone, wire.OutcomeDied},
		{"the ancestor itself", 0, wire.KillPartial, wire.OutcomeRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNamespace(t, func(w *world) {
				pid := w.start("obey")
				e := w.enforcer()
				if _, err := e.own.get(w.fs); err != nil {
					t.Fatal(err)
				}
				st, err := w.fs.Stat(pid)
				if err != nil {
					t.Fatal(err)
				}
				st.StartTicks -= test.later
				e.own.found[pid] = st
				kill := e.Do(context.Background(), w.request(longGrace))
				w.check(kill, test.outcome, map[string]int{test.member: 1})
				if test.later == 0 && kill.Processes[0].Error != errSelf.Error() {
					t.Errorf("got %+v", kill.Processes[0])
				}
			})
		})
	}
}

// TestMembersFail: who cannot be asked for more ends who is known, and says so.
func TestMembersFail(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "2", "obey")
		e := w.enforcer()
		e.Tree = deaf{w}
		kill := e.Do(context.Background(), w.request(longGrace))
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeDied: 3})
		if n := strings.Count(kill.Reason, "members: deaf"); n != 1 {
			t.Errorf("got the reason %q", kill.Reason)
		}
	})
}

type deaf struct{ *world }

func (deaf) Members(context.Context, *Request) ([]Target, error) { return nil, errors.New("deaf") }

// TestEndless has a tree that never ends: the kill does.
func TestEndless(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("obey")
		e := w.enforcer()
		e.Tree = &endless{world: w}
		kill := e.Do(context.Background(), w.request(0))
		if kill.Outcome != wire.KillPartial || !strings.Contains(kill.Reason, errGrows.Error()) {
			t.Errorf("got %s, %q", kill.Outcome, kill.Reason)
		}
		for _, p := range kill.Processes {
			if p.Outcome != wire.OutcomeDied && p.Error != errGrows.Error() && p.Outcome != wire.OutcomeZombie {
				t.Errorf("got %+v", p)
			}
		}
	})
}

// endless starts another process whenever it is asked.
type endless struct{ *world }

func (e *endless) Members(ctx context.Context, req *Request) ([]Target, error) {
	if err := startSleepers(1); err != nil {
		return nil, err
	}
	return e.world.Members(ctx, req)
}

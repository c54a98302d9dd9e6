// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Fates of the processes of TestOnlyThose: what stands between them and the kill.
const (
	fateNone = iota
	fateNotAsked
	fateProtected
	fateOtherStart
	fateRecheckStop
	fateRecheckTerm
	fates
)

// TestOnlyThose draws trees whose processes have all sorts of reasons to be left
// alone: exactly those without one are dead afterwards, whatever the mix, and the
// others run.
func TestOnlyThose(t *testing.T) {
	inNamespace(t, func(w *world) {
		rapid.Check(t, func(rt *rapid.T) { onlyThose(rt, w) })
	})
}

func onlyThose(rt *rapid.T, w *world) {
	fate := map[int32]int{}
	req := Request{KillID: "k", Scope: wire.ScopeProcess, Grace: longGrace,
		Mode: rapid.SampledFrom([]string{wire.ModeEnforce, wire.ModeObserve}).Draw(rt, "mode")}
	for range rapid.IntRange(1, 5).Draw(rt, "processes") {
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "600"}, &syscall.ProcAttr{Env: os.Environ()})
		if err != nil {
			rt.Fatal(err)
		}
		defer endChild(pid)
		target := Target{ID: w.id(int32(pid))}
		fate[target.ID.PID] = rapid.IntRange(0, fates-1).Draw(rt, "fate")
		switch fate[target.ID.PID] {
		case fateNotAsked:
			continue
		case fateOtherStart:
			target.ID.Start--
		}
		req.Targets = append(req.Targets, target)
	}
	judge := fatal(fate)
	e := Enforcer{Identity: w, Tree: judge, Protector: judge, Journal: Dir(w.TempDir()), ReapWait: 1}
	kill := e.Do(context.Background(), req)
	if len(kill.Processes) != len(req.Targets) {
		rt.Fatalf("got %d outcomes of %d processes", len(kill.Processes), len(req.Targets))
	}
	for pid, fate := range fate {
		dead := w.state(pid) == 'Z'
		if want := fate == fateNone && req.Mode == wire.ModeEnforce; dead != want {
			rt.Errorf("pid %d with fate %d: got dead %t, want %t\n%+v", pid, fate, dead, want, kill)
		}
		if !dead {
			w.eventually("it runs", func() bool { return w.runs(pid) })
		}
	}
	if observed := kill.Outcome == wire.KillObserved; observed != (req.Mode == wire.ModeObserve) {
		rt.Errorf("got %s in mode %s", kill.Outcome, req.Mode)
	}
}

func endChild(pid int) {
	unix.Kill(pid, unix.SIGKILL)
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// fatal is a Tree and a Protector by fate.
type fatal map[int32]int

func (fatal) Members(context.Context, *Request) ([]Target, error) { return nil, nil }

func (f fatal) Others(context.Context, *Request) ([]event.ID, error) { return nil, nil }

func (f fatal) Recheck(_ context.Context, _ *Request, id event.ID, sig unix.Signal) error {
	if f[id.PID] == fateRecheckStop || f[id.PID] == fateRecheckTerm && sig == unix.SIGTERM {
		return errors.New("not any more")
	}
	return nil
}

func (f fatal) Protected(t Target) error {
	if f[t.ID.PID] == fateProtected {
		return errors.New("protected")
	}
	return nil
}

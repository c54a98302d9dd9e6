// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// firstSignalsSent is a request whose targets are held, with the first signals sent.
func (w *world) firstSignalsSent(e *Enforcer) Request {
	w.Helper()
	req := w.request(longGrace)
	req.Held = Hold(req.Targets)
	if !e.SendFirstSignals(&req) {
		w.Fatal("nothing was signalled")
	}
	return req
}

// TestFirstSignals wants the first signals sent before Do is called, and the kill told as one.
func TestFirstSignals(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "3", "obey")
		e := w.enforcer()
		req := w.firstSignalsSent(e)
		w.eventually("all obey", func() bool { return len(w.targets()) == 0 })
		kill := e.Do(context.Background(), req)
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 4})
		for _, p := range kill.Processes {
			if p.Signal != "SIGTERM" || p.RSSBytes == nil {
				t.Errorf("got %+v", p)
			}
		}
		if left, err := os.ReadDir(string(e.Journal.(Dir))); err != nil || len(left) > 0 {
			t.Errorf("in the journal still: %v, %v", left, err)
		}
	})
}

// TestFirstSignalsGrace wants those who ignore what they were sent to have their grace all the
// same, from Do on.
func TestFirstSignalsGrace(t *testing.T) {
	inNamespace(t, func(w *world) {
		w.start("tree", "1", "ignore")
		e := w.enforcer()
		req := w.firstSignalsSent(e)
		req.Grace = 0
		kill := e.Do(context.Background(), req)
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 2})
		if kill.Signal != "SIGKILL" {
			t.Errorf("got %s, want SIGKILL", kill.Signal)
		}
		w.empty()
	})
}

// TestFirstSignalsReleased wants a kill that is not carried out to leave nobody stopped and no
// descriptor open.
func TestFirstSignalsReleased(t *testing.T) {
	inNamespace(t, func(w *world) {
		pid := w.start("tree", "1", "ignore")
		e := w.enforcer()
		req := w.firstSignalsSent(e)
		fds := make([]int, 0, len(req.begun.members))
		for _, m := range req.begun.members {
			fds = append(fds, m.fd)
		}
		queued := req // whoever lets go may have a copy
		queued.Release()
		for _, m := range req.begun.members {
			if m.fd >= 0 {
				t.Errorf("%d would be closed again, whoever has it then", m.fd)
			}
		}
		for _, fd := range fds {
			if err := pidfdSend(fd, 0); !errors.Is(err, unix.EBADF) {
				t.Errorf("%d is open still: %v", fd, err)
			}
		}
		if left, err := os.ReadDir(string(e.Journal.(Dir))); err != nil || len(left) > 0 {
			t.Errorf("in the journal still: %v, %v", left, err)
		}
		w.eventually("the child continues", func() bool {
			for _, target := range w.targets() {
				if target.ID.PID != pid && !w.runs(target.ID.PID) {
					return false
				}
			}
			return true
		})
	})
}

// TestFirstSignalsOnlyHeld wants nobody signalled on the spot whose identity would have to be
// asked for, nor by a request that only observes, nor who is spared by then.
func TestFirstSignalsOnlyHeld(t *testing.T) {
	inNamespace(t, func(w *world) {
		first, second := w.start("obey"), w.start("obey")
		e := w.enforcer()
		req := w.request(longGrace)
		req.Held = Hold(req.Targets[:1])
		if e.SendFirstSignals(&req) {
			t.Error("signalled although one is not held")
		}
		req.Release()
		req = w.request(longGrace)
		req.Mode, req.Held = wire.ModeObserve, Hold(req.Targets)
		if e.SendFirstSignals(&req) {
			t.Error("signalled although it only observes")
		}
		req.Release()
		w.recheck = func(event.ID, unix.Signal) error { return errors.New("the rule no longer holds") }
		req = w.firstSignalsSent(e)
		kill := e.Do(context.Background(), req)
		w.check(kill, wire.KillPartial, map[string]int{wire.OutcomeRefused: 2})
		if !w.runs(first) || !w.runs(second) {
			t.Error("somebody was signalled")
		}
	})
}

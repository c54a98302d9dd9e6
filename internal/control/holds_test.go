// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/holds"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A holder answers what a process holds, each time with the next of its answers, the last of
// which stays.
type holder struct {
	answers []any // a port, or an error
	asked   atomic.Int32
}

func (h *holder) Read(context.Context, event.ID, uint32) (holds.Held, error) {
	n := int(h.asked.Add(1))
	switch a := h.answers[min(n, len(h.answers))-1].(type) {
	case error:
		return holds.Held{}, a
	case int:
		return holds.Held{Ports: []procfs.Port{{Proto: "tcp", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(a))}}}, nil
	}
	return holds.Held{}, nil
}

const listensConfig = `
budget: {warm_up: 0s, pause: 0s}
rules:
  - {name: ports, mode: enforce, orphaned_for: 0s, grace: 1s, match: {verdict: [leaked, unknown], listens: 8000-8099}}
`

// listensWorld has a real process, which is left, hold what the answers say.
func listensWorld(t *testing.T, mode string, answers ...any) (*world, *holder, event.ID) {
	w := newWorld(t, strings.Replace(listensConfig, "enforce", mode, 1))
	h := &holder{answers: answers}
	w.on(func(*tracker.Tree) { w.holds = h })
	return w, h, w.deaf()
}

// TestListens wants a process ended that listens on a port of the rule's, after it was read
// again.
func TestListens(t *testing.T) {
	w, h, id := listensWorld(t, wire.ModeEnforce, 8000)
	kill := w.next("kill", isKillOf(id.PID)).Kill
	if kill.Outcome != wire.KillDone || !strings.Contains(kill.Reason, "it listens on port 8000") {
		t.Errorf("got %+v", kill)
	}
	if n := h.asked.Load(); n < 2 {
		t.Errorf("it was read %d times, want once before the decision, and before the signal", n)
	}
}

// TestListensNoMore wants nobody signalled who has given the port back between the decision and
// the signal.
func TestListensNoMore(t *testing.T) {
	w, _, id := listensWorld(t, wire.ModeEnforce, 8000, 9000)
	kill := w.next("kill", isKillOf(id.PID)).Kill
	if kill.Outcome == wire.KillDone || kill.Processes[0].Outcome == wire.OutcomeDied {
		t.Errorf("got %+v", kill)
	}
}

// TestListensUnread wants nobody ended of whom it cannot be read, and a question with each sample,
// no more.
func TestListensUnread(t *testing.T) {
	w, h, id := listensWorld(t, wire.ModeEnforce, errors.New("it hangs"))
	proctest.Eventually(t, "the first question", func() bool { return h.asked.Load() == 1 })
	idle := func() bool {
		var reading bool
		w.on(func(*tracker.Tree) { reading = w.readingHeld })
		return !reading
	}
	proctest.Eventually(t, "its end", idle)
	w.on(func(*tracker.Tree) { w.OnSample(nil, policy.UnknownHost()) })
	proctest.Eventually(t, "the second question", func() bool { return h.asked.Load() == 2 })
	proctest.Eventually(t, "its end", idle)
	if n := h.asked.Load(); n != 2 {
		t.Errorf("it was read %d times, want 2", n)
	}
	for len(w.events) > 0 {
		if e := <-w.events; isKillOf(id.PID)(e) {
			t.Errorf("got %+v", e.Kill)
		}
	}
}

// TestPassReads wants a clean-up to read what its rules look at.
func TestPassReads(t *testing.T) {
	w, _, id := listensWorld(t, wire.ModeObserve, errors.New("it hangs"), 8000)
	w.next("orphan", func(e *wire.Event) bool { return e.Type == wire.TypeOrphan && e.Process.PID == id.PID })
	proctest.Eventually(t, "a kill by the pass", func() bool {
		kills, err := w.Pass(t.Context(), nil, false, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(kills) == 1 && strings.Contains(kills[0].Reason, "it listens on port 8000")
	})
}

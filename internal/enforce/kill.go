// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Bounds of a kill. A tree that outruns them is told as what it is: partial.
const (
	maxRounds = 16  // of TERM, wait, KILL, wait
	maxPasses = 100 // of stopping or killing whoever was born during the pass before, in all
)

// kill is one request being carried out.
type kill struct {
	*Enforcer
	ctx              context.Context
	req              *Request
	answers          Answers
	own              map[int32]procfs.Stat // ourselves and our ancestors
	watch            deathWatch
	passes           int
	short            bool // somebody got no descriptor when the tree was last looked at
	portions         int
	members          []*member
	seen             map[event.ID]bool
	firstSignalsOnly bool      // in SendFirstSignals
	firstSignalsAt   time.Time // when SendFirstSignals was done; zero without it
	// journaled says that the journal has an entry of this kill.
	journaled bool
	notes     []string // what went wrong with the kill as a whole
	partial   bool     // so wrong that its end is in doubt
}

func (k *kill) begin() (err error) {
	if k.own != nil { // it was taken up before
		k.refresh()
		return nil
	}
	return k.admitTargets()
}

// admitTargets makes the targets members, and whoever belongs to them by now.
func (k *kill) admitTargets() (err error) {
	if k.own, err = k.Enforcer.own.get(k.FS); err != nil {
		return err
	}
	k.admit(k.req.Targets, false)
	k.refresh()
	return nil
}

// refuseAll is for a kill that cannot begin.
func (k *kill) refuseAll(err error) {
	if len(k.members) == 0 {
		for _, t := range k.req.Targets {
			k.members = append(k.members, &member{Target: t, fd: -1})
		}
	}
	for _, m := range k.which(isAny) {
		m.end(wire.OutcomeRefused, err)
	}
}

// close lets go of everything, stopped processes first.
func (k *kill) close() {
	k.thaw()
	k.forget()
	k.watch.close()
	for _, m := range k.members {
		if m.fd >= 0 {
			unix.Close(m.fd)
			m.fd = -1
		}
	}
	k.req.Release() // what was not taken up
}

// note adds to the reason what went wrong, once.
func (k *kill) note(what string, err error) {
	text := fmt.Sprintf("%s: %v", what, err)
	if !slices.Contains(k.notes, text) {
		k.notes = append(k.notes, text)
	}
}

// markPartial is a note of what leaves the end of the kill in doubt.
func (k *kill) markPartial(what string, err error) {
	k.note(what, err)
	k.partial = true
}

// refresh takes up who was born into the tree, and returns how many.
func (k *kill) refresh() int {
	if k.req.Scope != wire.ScopeTree || k.firstSignalsOnly {
		return 0
	}
	targets, err := k.answers.Members(k.ctx, k.req)
	if err != nil {
		k.markPartial("members", err)
		return 0
	}
	return k.admit(targets, true)
}

// which returns the members that may live and that pick picks.
func (k *kill) which(pick func(*member) bool) []*member {
	var some []*member
	for _, m := range k.members {
		if m.live() && pick(m) {
			some = append(some, m)
		}
	}
	return some
}

func isLast(m *member) bool    { return m.Last }
func isNotLast(m *member) bool { return !m.Last }
func isAny(*member) bool       { return true }

// observe walks the path of enforce up to the signal, which is signal 0.
func (k *kill) observe() {
	k.observePortion()
	for k.nextPortion() {
		k.observePortion()
	}
	k.refusePostponed()
}

func (k *kill) observePortion() {
	for _, m := range k.which(isAny) {
		k.noteState(m)
		err := k.permit(m, unix.SIGTERM)
		if err == nil {
			err = pidfdSend(m.fd, 0)
		}
		switch {
		case err == nil:
			m.end(wire.OutcomeWouldKill, nil)
		case errors.Is(err, unix.ESRCH):
			m.died()
		default:
			m.end(wire.OutcomeRefused, err)
		}
	}
}

func (k *kill) enforce() {
	if k.req.Signal == unix.SIGKILL {
		k.req.Grace = 0
	}
	deadline := time.Now().Add(k.req.Grace)
	empty := false
	for round := 0; round < maxRounds && k.passes <= maxPasses && !empty && k.ctx.Err() == nil; round++ {
		if round == 0 || time.Now().Before(deadline) {
			k.terminate()
			k.forget()
		}
		if round == 0 { // stopping a large tree is not part of its grace
			k.giveUpPlace()
			deadline = k.signalledAt().Add(k.req.Grace)
		}
		k.wait(deadline, isNotLast)
		k.spareHelpers()
		k.killRemaining(isNotLast)
		empty = k.refresh() == 0 && len(k.which(isNotLast)) == 0
		if empty && k.nextPortion() {
			empty, round, k.firstSignalsAt = false, -1, time.Time{}
		}
	}
	k.refusePostponed()
	if !empty && k.ctx.Err() == nil {
		k.markPartial("members", errGrows)
	}
	k.finishLast(deadline)
	k.settle()
}

// giveUpPlace lets others begin: what follows is waiting, for the most part.
func (k *kill) giveUpPlace() {
	if k.req.Waits != nil {
		k.req.Waits()
	}
}

// signalledAt is when the first SIGTERMs were sent, which just was or which SendFirstSignals did.
func (k *kill) signalledAt() time.Time {
	if k.firstSignalsAt.IsZero() {
		return time.Now()
	}
	return k.firstSignalsAt
}

// terminate sends the first signal to all before any of them can react to the end of
// another: by starting a successor, for one. SIGKILL is left to killRemaining.
func (k *kill) terminate() {
	first := k.req.firstSignal()
	if first == unix.SIGKILL {
		return
	}
	k.freeze()
	defer k.thaw()
	for _, m := range k.which(func(m *member) bool { return !m.Last && m.signal == 0 }) {
		k.noteState(m)
		if k.send(m, first); m.signal != 0 && m.halted {
			pidfdSend(m.fd, unix.SIGCONT)
		}
	}
}

// pass reports whether one more pass over the tree is within bounds.
func (k *kill) pass() bool {
	k.passes++
	return k.passes <= maxPasses
}

// killRemaining ends with SIGKILL whoever is left of those picked. Nobody is waited for
// before all have it: what has SIGKILL pending forks no more, so the passes end.
func (k *kill) killRemaining(pick func(*member) bool) {
	for first := true; first || k.pass(); first = false {
		var fds []int
		for _, m := range k.which(pick) {
			if m.signal == unix.SIGKILL {
				continue
			}
			k.noteState(m)
			if k.send(m, unix.SIGKILL); m.live() {
				fds = append(fds, m.fd)
			}
		}
		if len(fds) == 0 {
			break
		}
		mreleaseAll(fds)
		k.refresh()
	}
	dying := func(m *member) bool { return m.signal == unix.SIGKILL && pick(m) }
	k.wait(time.Now().Add(k.killWait()), dying)
	if k.ctx.Err() != nil {
		return
	}
	for _, m := range k.which(dying) {
		m.end(wire.OutcomeUninterruptible, k.whyAlive(m))
	}
}

// whyAlive says in which state a process is that does not die.
func (k *kill) whyAlive(m *member) error {
	st, err := k.FS.Stat(m.ID.PID)
	if err != nil {
		return fmt.Errorf("alive %s after SIGKILL: %w", k.killWait(), err)
	}
	return fmt.Errorf("in state %c %s after SIGKILL", st.State, k.killWait())
}

// finishLast waits for those that end by themselves when the others have, those of the same
// leak that other kills end, too; for these one more grace.
func (k *kill) finishLast(deadline time.Time) {
	if len(k.which(isLast)) == 0 || k.ctx.Err() != nil {
		return
	}
	for patience := time.Now().Add(k.req.Grace); k.othersLive() && time.Now().Before(patience) && k.ctx.Err() == nil; {
		k.wait(earlier(patience, time.Now().Add(othersPause)), isLast)
		if len(k.which(isLast)) == 0 {
			return
		}
	}
	if own := time.Now().Add(k.lastWait()); own.After(deadline) {
		deadline = own
	}
	for _, m := range k.which(isLast) {
		m.begin()
	}
	k.wait(deadline, isLast)
	k.killRemaining(isLast)
}

// othersPause is between two looks at processes that this kill does not end.
const othersPause = 50 * time.Millisecond

// othersLive reports whether some of the leak live that are not stuck in the kernel.
func (k *kill) othersLive() bool {
	others, err := k.answers.Others(k.ctx, k.req)
	if err != nil {
		k.note("others of the leak", err)
		return false
	}
	return slices.ContainsFunc(others, func(id event.ID) bool {
		st, err := k.FS.Stat(id.PID)
		return err == nil && st.Is(id) && st.State != 'D' && !st.Dead()
	})
}

func (k *kill) result() wire.Kill {
	out := wire.Kill{
		KillID: k.req.KillID, Rule: k.req.Rule, Mode: k.req.Mode, Scope: k.req.Scope,
		Signal: event.SignalName(k.req.firstSignal()), GraceSeconds: k.req.Grace.Seconds(), Verdict: k.req.Verdict,
		Reason: k.reason(), Processes: []wire.Killed{}, Outcome: wire.KillDone,
	}
	if k.partial {
		out.Outcome = wire.KillPartial
	}
	for _, m := range k.members {
		if m.live() {
			m.end(wire.OutcomeRefused, k.givenUp())
		}
		if m.grown && m.signal == 0 && (m.outcome == wire.OutcomeVanished || m.outcome == wire.OutcomeIdentityChanged) {
			continue // it came and went by itself
		}
		out.Processes = append(out.Processes, m.wire())
		switch m.outcome {
		case wire.OutcomeRefused, wire.OutcomeUninterruptible:
			out.Outcome = wire.KillPartial
		}
		if m.signal == unix.SIGKILL {
			out.Signal = "SIGKILL"
		}
		out.FreedBytes += m.freed()
	}
	if k.req.Mode != wire.ModeEnforce {
		out.Outcome = wire.KillObserved
	}
	return out
}

// givenUp says why a process is left alone that could have been ended.
func (k *kill) givenUp() error {
	if err := context.Cause(k.ctx); err != nil {
		return err
	}
	return errGrows
}

// reason is the rule's reason with the notes behind it.
func (k *kill) reason() string {
	notes := k.notes
	if k.req.Reason != "" {
		notes = append([]string{k.req.Reason}, notes...)
	}
	return strings.Join(notes, "; ")
}

func (m *member) wire() wire.Killed {
	w := wire.Killed{PID: m.ID.PID, StartNS: m.ID.Start, Comm: m.Comm, Outcome: m.outcome,
		Error: m.why, RSSBytes: m.RSS, SwapBytes: m.Swap, WaitMS: float64(m.took) / float64(time.Millisecond)}
	if m.signal != 0 {
		w.Signal = event.SignalName(m.signal)
	}
	return w
}

// freed is what its death gave back: what it had when it was decided upon. Pages
// that processes share are counted for each.
func (m *member) freed() (bytes uint64) {
	if m.since.IsZero() || m.outcome != wire.OutcomeDied && m.outcome != wire.OutcomeZombie {
		return 0
	}
	for _, part := range []*uint64{m.RSS, m.Swap} {
		if part != nil {
			bytes += *part
		}
	}
	return bytes
}

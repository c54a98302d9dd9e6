// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A member is one process of the tree that is being ended.
type member struct {
	Target
	fd       int  // pidfd, -1 where it could not be opened
	verified bool // the pidfd is known to be its own
	grown    bool
	outcome  string // empty as long as it may live
	why      string
	// signal is the last that it was sent, of the first one and SIGKILL. Its end began at
	// since (zero before) and took that long.
	signal unix.Signal
	since  time.Time
	took   time.Duration
	// permitted is when the Protector last had nothing against a signal.
	permitted time.Time
	// stopped says that we have stopped it and not yet let it continue; halted
	// that somebody else had, before us.
	stopped, halted bool
}

func (m *member) live() bool { return m.outcome == "" }

func (m *member) end(outcome string, why error) {
	m.outcome = outcome
	if why != nil {
		m.why = why.Error()
	}
}

// begin starts the clock of its end.
func (m *member) begin() {
	if m.since.IsZero() {
		m.since = time.Now()
	}
}

// died notes a verified death, which is ours if we began it.
func (m *member) died() {
	if m.since.IsZero() {
		m.outcome = wire.OutcomeVanished
		return
	}
	m.outcome, m.took = wire.OutcomeDied, time.Since(m.since)
}

var (
	errStart = errors.New("its exact start is not known")
	errInit  = errors.New("it is pid 1")
	errSelf  = errors.New("it is the killer or an ancestor of the killer")
	errGrows = errors.New("the tree still grows")
)

// admit takes up the targets that are new and returns how many may live: their pidfds
// are opened first and their identities verified then, so that a pidfd that passes is
// theirs. Those that are held have been through that.
func (k *kill) admit(targets []Target, grown bool) (admitted int) {
	var taken []*member
	k.short = false
	limit := fdLimit()
	for _, t := range targets {
		if k.seen[t.ID] {
			continue
		}
		m := &member{Target: t, fd: -1, grown: grown && k.portions == 0}
		if err := k.open(m, limit); k.postpones(err) {
			k.short = true
			continue
		}
		k.seen[t.ID] = true
		k.members = append(k.members, m)
		if m.live() {
			taken = append(taken, m)
		}
	}
	k.verify(taken)
	for _, m := range taken {
		if m.live() && ended(m.fd) {
			m.died()
		}
		if m.live() {
			admitted++
		}
	}
	return admitted
}

// takeHeld returns the pidfd by which the process is held already.
func (k *kill) takeHeld(id event.ID) (fd int, ok bool) {
	i := slices.IndexFunc(k.req.Held, func(h Held) bool { return h.ID == id })
	if i < 0 {
		return -1, false
	}
	fd = k.req.Held[i].Pidfd
	k.req.Held = slices.Delete(k.req.Held, i, i+1)
	return fd, true
}

// isOwn reports whether id is ourselves or an ancestor.
func (k *kill) isOwn(id event.ID) bool {
	st, ok := k.own[id.PID]
	return ok && st.Is(id)
}

// open opens the pidfd of a member, or ends it. It returns why the opening failed.
func (k *kill) open(m *member, limit int) error {
	// Before the pidfd: these must not even be candidates.
	switch {
	case m.ID.Start == 0:
		m.end(wire.OutcomeRefused, errStart)
		return nil
	case m.ID.PID <= 1:
		m.end(wire.OutcomeRefused, errInit)
		return nil
	case k.isOwn(m.ID):
		m.end(wire.OutcomeRefused, errSelf)
		return nil
	}
	if fd, ok := k.takeHeld(m.ID); ok {
		m.fd, m.verified = fd, true
		return nil
	}
	fd, err := pidfdWithin(m.ID.PID, limit)
	switch {
	case err == nil:
		m.fd = fd
	case errors.Is(err, unix.ESRCH):
		m.end(wire.OutcomeVanished, nil)
	default:
		m.end(wire.OutcomeRefused, fmt.Errorf("pidfd: %w", err))
	}
	return err
}

// verify compares the starts now with those decided upon. A match proves that the
// pidfd is the right one: the process had the pid before the pidfd was opened and
// has it after, and no other can have had it in between.
func (k *kill) verify(taken []*member) {
	var pids []int32
	for _, m := range taken {
		if !m.verified {
			pids = append(pids, m.ID.PID)
		}
	}
	if len(pids) == 0 {
		return
	}
	starts, err := k.answers.Starts(pids)
	for _, m := range taken {
		start, found := starts[m.ID.PID]
		switch {
		case m.verified:
		case err != nil:
			m.end(wire.OutcomeRefused, fmt.Errorf("identity: %w", err))
		case !found:
			m.end(wire.OutcomeVanished, nil)
		case start != m.ID.Start:
			m.end(wire.OutcomeIdentityChanged, nil)
		default:
			m.verified = true
		}
	}
}

// permit says why m must not be signalled.
func (k *kill) permit(m *member, sig unix.Signal) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	if time.Since(m.permitted) > permitFor {
		if err := k.answers.Protected(m.Target); err != nil {
			return fmt.Errorf("protected: %w", err)
		}
		m.permitted = time.Now()
	}
	return k.answers.Recheck(k.ctx, k.req, m.ID, sig)
}

// send sends sig if that is still permitted, and notes what came of it.
func (k *kill) send(m *member, sig unix.Signal) {
	if err := k.permit(m, sig); err != nil {
		// About the dead little can be known: that is no refusal.
		if ended(m.fd) {
			m.died()
			return
		}
		m.end(wire.OutcomeRefused, err)
		return
	}
	switch err := pidfdSend(m.fd, sig); {
	case errors.Is(err, unix.ESRCH):
		m.died()
	case err != nil:
		m.end(wire.OutcomeRefused, fmt.Errorf("%s: %w", event.SignalName(sig), err))
	case sig == unix.SIGSTOP:
		m.stopped = true
	default:
		m.signal = sig
		m.begin()
	}
}

// selfAndAncestors are ourselves and our ancestors, pid 1 excepted, each with its start: a
// later process with the pid of a dead one is not of them. When one of them dies another of
// them, or pid 1, takes its place: what was found once has all that come later. In a pid
// namespace of our own they end at its border.
type selfAndAncestors struct {
	mu    sync.Mutex
	found map[int32]procfs.Stat
}

func (n *selfAndAncestors) get(fs procfs.FS) (map[int32]procfs.Stat, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.found != nil {
		return n.found, nil
	}
	found, err := ancestors(fs)
	if err == nil {
		n.found = found
	}
	return found, err
}

// ancestors returns ourselves and those above, by pid, pid 1 excepted.
func ancestors(fs procfs.FS) (map[int32]procfs.Stat, error) {
	found := make(map[int32]procfs.Stat)
	for pid := int32(os.Getpid()); pid > 1; {
		st, err := fs.Stat(pid)
		if errors.Is(err, procfs.ErrGone) {
			break // a parent that has just died is nobody's ancestor any more
		}
		if err != nil {
			return nil, fmt.Errorf("own ancestors: %w", err)
		}
		if _, again := found[pid]; again {
			break
		}
		found[pid] = st
		pid = st.PPID
	}
	return found, nil
}

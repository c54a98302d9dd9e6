// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// maxSenderAncestors is how many of a sender's ancestors are kept with a signal.
const maxSenderAncestors = 4

// An Ancestor names one of the line of spawners of a process.
type Ancestor struct {
	ID   event.ID
	Comm event.Comm
}

// Sent is a signal that a process was sent, with its sender as it was then. It never
// changes.
type Sent struct {
	event.Signal
	Time uint64 // CLOCK_BOOTTIME ns
	// BySpawner says that the sender had spawned the target, and lived.
	BySpawner bool
	// ByInit says that the sender was the init of a pid namespace.
	ByInit bool
	// Cmdline is the sender's, NUL-separated, and Ancestors are those that it had, nearest
	// first. Both are empty where the sender is not known.
	Cmdline   string
	Ancestors []Ancestor

	Ordinal uint32 // of the record
}

// How long before an exit a signal that did not end the process by itself is taken for the
// reason: services take their time to stop. SIGHUP asks most services to reload.
const (
	AskedWithin       = 90 * time.Second
	AskedByHupWithin  = 5 * time.Second
	maxCaughtBySignal = 32
)

// signals are what a living process was sent: the first and the last fatal signal, and of
// those that did not end it the last of each number.
type signals struct {
	first, last *Sent
	caught      []*Sent // oldest first
}

// received takes the record of a signal, fatal or not.
func (t *Tree) received(e *event.Event) {
	r := t.find(e.Subject)
	if r == 0 || t.at(r).is(flagDead) {
		return
	}
	s := &Sent{Signal: e.Signal, Time: e.Time, Ordinal: e.Ordinal}
	from := t.sender(&s.Signal)
	if from != 0 && s.Sender.Start == 0 {
		s.Sender = t.at(from).id()
	}
	all := t.signals[r]
	if s.repeats(all.last) || slices.ContainsFunc(all.caught, s.repeats) {
		return
	}
	if from != 0 && !s.FromKernel {
		t.describeSender(s, r, from)
	}
	kind := Caught
	if e.Kind == event.KindSignal {
		kind, all.last = Signaled, s
		if all.first == nil {
			all.first = s
		}
	} else {
		all.caught = keepLast(all.caught, s)
	}
	t.signals[r] = all
	t.report(Change{Kind: kind, ID: e.Subject, Time: e.Time, Sent: s})
}

// repeats reports whether s is the record that was taken as other.
func (s *Sent) repeats(other *Sent) bool {
	return other != nil && other.Ordinal == s.Ordinal && other.Signal == s.Signal
}

// keepLast returns caught with s in the place of the one before it with its number. The
// list may be shared with a copy: it is made anew.
func keepLast(caught []*Sent, s *Sent) []*Sent {
	kept := make([]*Sent, 0, len(caught)+1)
	for _, before := range caught {
		if before.Signal.Signal != s.Signal.Signal {
			kept = append(kept, before)
		}
	}
	if len(kept) == maxCaughtBySignal {
		kept = kept[1:]
	}
	return append(kept, s)
}

func (t *Tree) describeSender(s *Sent, target, from ref) {
	n := t.at(from)
	s.BySpawner = from != target && t.at(target).spawner.parent == from
	s.ByInit = n.pid == 1 || n.is(flagNSInit)
	s.Cmdline = t.words.get(n.words).cmdline
	// Who signals many is described once.
	if last := t.lastSent; last != nil && last.Sender == s.Sender && last.Cmdline == s.Cmdline {
		s.Ancestors = last.Ancestors
		return
	}
	for at := n.spawner.parent; at != 0 && len(s.Ancestors) < maxSenderAncestors; at = t.at(at).spawner.parent {
		s.Ancestors = append(s.Ancestors, Ancestor{t.at(at).id(), t.at(at).comm})
	}
	t.lastSent = s
}

// sender finds the living process that sent sig, 0 where there is none: it may stand
// outside the reader's pid namespace.
func (t *Tree) sender(sig *event.Signal) ref {
	if sig.Sender.PID != 0 || sig.SenderHost == 0 {
		return t.live[sig.Sender.PID]
	}
	// Who kills many has sent the one before, too.
	if from := t.lastSender; from != 0 && t.isHost(from, sig.SenderHost) {
		return from
	}
	for _, r := range t.live {
		if t.isHost(r, sig.SenderHost) {
			t.lastSender = r
			return r
		}
	}
	return 0
}

func (t *Tree) isHost(r ref, pid int32) bool {
	n := t.at(r)
	return n.hostPID == pid && !n.is(flagDead) && n.pid != 0
}

// killer returns the signal that ended the process, with its sender. One that it blocked
// ended it when it was unblocked. One that it raised itself ended it on behalf of whoever
// had sent it the same before: that is how a program that cleans up first dies.
func (t *Tree) killer(r ref, status event.Status) *Sent {
	if !status.Signaled() {
		return nil
	}
	all := t.signals[r]
	var before *Sent
	for _, s := range all.caught {
		if s.Signal.Signal == status.Signal() {
			before = s
		}
	}
	for _, s := range []*Sent{all.first, all.last} {
		if s == nil || s.Signal.Signal != status.Signal() {
			continue
		}
		if before != nil && !s.FromKernel && s.Sender == t.at(r).id() {
			return before
		}
		return s
	}
	return before
}

// asked returns the last signal that asked the process to end and did not end it by
// itself, where that was shortly before it ended, at the given time.
func (t *Tree) asked(r ref, at uint64) *Sent {
	var last *Sent
	for _, s := range t.signals[r].caught {
		within := AskedWithin
		switch s.Signal.Signal {
		case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT:
		case unix.SIGHUP:
			within = AskedByHupWithin
		default:
			continue
		}
		if s.Effect != event.Ignored && s.Time <= at && at-s.Time <= uint64(within) && (last == nil || s.Time >= last.Time) {
			last = s
		}
	}
	return last
}

// LastCaught returns the last signal of that number that the living process was sent and
// that did not end it, nil where there was none.
func (t *Tree) LastCaught(id event.ID, sig unix.Signal) *Sent {
	for _, s := range t.signals[t.living(t.find(id))].caught {
		if s.Signal.Signal == sig {
			return s
		}
	}
	return nil
}

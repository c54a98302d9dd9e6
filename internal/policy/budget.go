// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/quantity"
)

// BudgetSpec limits how fast leaks are ended.
type BudgetSpec struct {
	KillsPerMinute int           // leaks, and trees that belong to none
	WarmUp         time.Duration // nothing is ended that soon after a start, a resync or a clock step
	Pause          time.Duration // rest after each of them
	Respawn        time.Duration // so soon after a kill the same leak suspends its rule for it; 0 is never
	StopFile       string        // nothing is ended while this file exists; looked for by the caller
}

// minute is the window of KillsPerMinute.
const minute = time.Minute

// Budget decides whether one more leak may be ended now. It counts leaks and never
// stops inside one. It has no clock: each call brings CLOCK_BOOTTIME in ns. It
// belongs to one goroutine.
type Budget struct {
	spec    BudgetSpec
	held    uint64    // when the warm-up began
	rested  uint64    // when the pause began
	paused  bool      // there was a kill to pause after
	granted []granted // of the last minute, oldest first
	why     string    // what the warm-up is for
}

// granted is one grant.
type granted struct {
	at   uint64
	leak string // its id, or empty for a tree that belongs to none
	uid  uint32
}

// A Grant is the answer to [Budget.Take].
type Grant struct {
	OK bool
	// Why says what holds the kill back, RetryAt when to ask again (0 where no
	// instant is known: the stop file).
	Why     string
	RetryAt uint64
	// Exhausted says that the minute's number is used up, which calls for an alert.
	Exhausted bool
}

// NewBudget returns a budget whose warm-up begins now.
func NewBudget(spec BudgetSpec, now uint64) *Budget {
	b := &Budget{spec: spec}
	b.Hold("start", now)
	return b
}

// Hold begins a warm-up: after a start, a resync, a step of the clock. A warm-up
// that runs is only ever prolonged by it.
func (b *Budget) Hold(why string, now uint64) {
	if now >= b.held {
		b.held, b.why = now, why
	}
}

// Held returns what the warm-up that runs is for, and its end; nothing where none runs.
func (b *Budget) Held(now uint64) (why string, until uint64) {
	if until = b.warm(); now >= until {
		return "", 0
	}
	return b.why, until
}

// warm is the end of the warm-up: no kill before.
func (b *Budget) warm() uint64 { return after(b.held, b.spec.WarmUp) }

// pause is the end of the pause: no kill before.
func (b *Budget) pause() uint64 {
	if !b.paused {
		return 0
	}
	return after(b.rested, b.spec.Pause)
}

// Reconfigure changes the limits, of a warm-up and a pause that run too: with a WarmUp
// of 0 it is over. What was granted still counts.
func (b *Budget) Reconfigure(spec BudgetSpec) { b.spec = spec }

// Take asks for trees of one leak of a user's; of no leak, for one tree. stopped says why the
// stop file holds all back, where it does. A grant counts at once. What is left of a leak within a minute after that
// takes no other, and no pause.
//
// Each user but root has at most as many of a minute's kills as are left for all others: one
// user's leaks take half of them at most, the next one's half of the rest, and the last is
// root's.
func (b *Budget) Take(now uint64, leak string, uid uint32, stopped string) Grant {
	for len(b.granted) > 0 && after(b.granted[0].at, minute) <= now {
		b.granted = b.granted[1:]
	}
	switch {
	case stopped != "":
		return Grant{Why: stopped}
	case now < b.warm():
		return Grant{Why: fmt.Sprintf("warming up after a %s", b.why), RetryAt: b.warm()}
	}
	if leak != "" && slices.ContainsFunc(b.granted, func(g granted) bool { return g.leak == leak }) {
		return Grant{OK: true}
	}
	if why := b.exhausted(uid); why != "" {
		first := now
		if len(b.granted) > 0 {
			first = b.granted[0].at
		}
		return Grant{Why: why, RetryAt: after(first, minute), Exhausted: true}
	}
	if now < b.pause() {
		return Grant{Why: fmt.Sprintf("pausing for %s after a kill", quantity.FormatDuration(b.spec.Pause)), RetryAt: b.pause()}
	}
	b.granted = append(b.granted, granted{now, leak, uid})
	b.Rest(now)
	return Grant{OK: true}
}

// exhausted says why the minute has nothing left for the user, or nothing.
func (b *Budget) exhausted(uid uint32) string {
	left := b.spec.KillsPerMinute - len(b.granted)
	if left <= 0 {
		return fmt.Sprintf("%d leaks were ended within a minute, which is the budget", len(b.granted))
	}
	if uid == 0 || b.spec.KillsPerMinute == 1 {
		return ""
	}
	own := 0
	for _, g := range b.granted {
		if g.uid == uid {
			own++
		}
	}
	if own < left-1 {
		return ""
	}
	return fmt.Sprintf("%d leaks of user %d were ended within a minute, which is its share of the budget of %d",
		own, uid, b.spec.KillsPerMinute)
}

// Rest begins the pause. Take does so; the end of a kill does so again, since the
// pause is there to see what the kill has changed.
func (b *Budget) Rest(now uint64) {
	b.rested, b.paused = max(b.rested, now), true
}

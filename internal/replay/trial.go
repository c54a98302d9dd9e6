// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// What became of a leak that a rule would have ended.
const (
	FateOpen       = "still open"
	FateDeliberate = "proved deliberate"
	FateItself     = "ended by itself"
	FateKilled     = "ended by a kill"
	FateOther      = "ended otherwise"
)

// A Tried is one leak that a rule would have ended.
type Tried struct {
	Leak      string    // its id; empty where the events tell none
	Time      time.Time // when the rule would have begun
	Processes int
	Bytes     uint64 // what it held at most, as far as that was told
	Name      string // the leaker's command in its normal form, else the first victim's name
	Fate      string

	ignored bool // somebody has had all rules ignore such leaks
}

// A Trial tries one rule on recorded events: what it would have ended, and what became of
// that without it. It belongs to one goroutine.
type Trial struct {
	player *Player
	leaks  map[string]*Tried   // by id, else by the root's identity
	roots  map[event.ID]*Tried // whose roots are to be followed
	order  []*Tried
}

// NewTrial tries the rule, whatever its mode, with the operator's additions to the protected
// set.
func NewTrial(rule policy.Rule, protect policy.Protect) (*Trial, error) {
	t := &Trial{leaks: make(map[string]*Tried), roots: make(map[event.ID]*Tried)}
	rule.Mode = wire.ModeEnforce
	var err error
	t.player, err = New(func() (*policy.Engine, error) {
		return policy.NewEngine(policy.Options{Rules: []policy.Rule{rule}, Protect: protect})
	}, t.act)
	return t, err
}

// act notes what the rule would have ended.
func (t *Trial) act(a Act) error {
	if !a.Enforces() {
		return nil
	}
	key := fmt.Sprintf("%d/%d", a.Decision.Root.PID, a.Decision.Root.Start)
	leak := ""
	if o := a.Root.Orphan; o != nil && o.Leak != "" {
		key, leak = o.Leak, o.Leak
	}
	tried := t.leaks[key]
	if tried == nil {
		tried = &Tried{Leak: leak, Time: a.Time, Name: a.Root.Comm, Fate: FateOpen}
		t.leaks[key] = tried
		t.order = append(t.order, tried)
	}
	tried.Processes += len(a.Targets)
	tried.Bytes += a.Bytes()
	for _, root := range a.Roots() {
		t.roots[root] = tried
	}
	return nil
}

// Apply takes the next event.
func (t *Trial) Apply(e *wire.Event) error {
	if err := t.player.Apply(e); err != nil {
		return err
	}
	if e.Leak != nil {
		t.learn(e.Leak)
	}
	if e.Process == nil {
		return nil
	}
	tried := t.roots[idOf(e.Process.PID, e.Process.StartNS)]
	switch {
	case tried == nil || tried.Fate == FateDeliberate:
	case e.Type == wire.TypeVerdict && e.Process.Orphan != nil && e.Process.Orphan.Verdict == wire.VerdictDeliberate:
		tried.Fate = FateDeliberate
	case e.Type == wire.TypeExit && tried.Leak == "":
		tried.Fate = fateOf(e.Process.Exit)
	}
	return nil
}

func fateOf(x *wire.Exit) string {
	if x != nil && x.Code != nil {
		return FateItself
	}
	return FateOther
}

// learn takes what is known of a leak: from its events, or as it is now.
func (t *Trial) learn(l *wire.Leak) {
	tried := t.leaks[l.ID]
	if tried == nil {
		return
	}
	tried.Name = cmp.Or(l.Name, tried.Name)
	tried.ignored = tried.ignored || slices.ContainsFunc(l.Trust, func(d wire.Trust) bool { return d.Kind == wire.TrustIgnore })
	if l.PeakBytes != nil {
		tried.Bytes = max(tried.Bytes, *l.PeakBytes)
	}
	if l.State == wire.LeakStateEnded && tried.Fate != FateDeliberate {
		tried.Fate = fateOfLeak(l)
	}
}

// fateOfLeak is what became of a leak that has ended.
func fateOfLeak(l *wire.Leak) string {
	switch l.EndedBy {
	case "exit":
		return FateItself
	case "kill":
		return FateKilled
	case "": // what was left proved deliberate
		return FateDeliberate
	}
	return FateOther
}

// End lets what was due until the last event act, and returns what the rule would have ended
// in the order of time, and what was seen. The leaks as they are now tell more of what became
// of them than the events do; those that somebody has had all rules ignore are left out.
func (t *Trial) End(now []wire.Leak) ([]Tried, Summary, error) {
	summary, err := t.player.End()
	for i := range now {
		t.learn(&now[i])
	}
	list := make([]Tried, 0, len(t.order))
	for _, tried := range t.order {
		if !tried.ignored {
			list = append(list, *tried)
		}
	}
	slices.SortStableFunc(list, func(a, b Tried) int { return a.Time.Compare(b.Time) })
	return list, summary, err
}

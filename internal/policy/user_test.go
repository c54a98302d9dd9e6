// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

func all(uid uint32) event.UIDs { return event.UIDs{Real: uid, Effective: uid, Saved: uid} }

// TestLeakersReach: whoever makes a leaker die ends by that nobody whom the leaker could not
// have signalled, unless the rule names that one's user.
func TestLeakersReach(t *testing.T) {
	setuid := event.UIDs{Real: 1000}
	for _, tt := range []struct {
		name         string
		leaker       event.UIDs
		root, member event.UIDs // pid 20, and pid 30 with its child 40, which has the member's
		rule         Rule
		want         []int32
	}{
		{"root's worker, who became another", all(0), all(0), all(33), Rule{}, []int32{20, 30, 40, 31}},
		{"a user's own", all(1000), all(1000), all(1000), Rule{}, []int32{20, 30, 40, 31}},
		{"a setuid program below a user's shell", all(1000), all(1000), setuid, Rule{}, []int32{20, 31}},
		{"root's job below a user's", all(1000), all(1000), all(0), Rule{Match: Match{"user": []string{"1000"}}}, []int32{20, 31}},
		{"root's job, which the rule names", all(1000), all(1000), all(0), Rule{Match: Match{"user": []string{"1000", "0"}}}, []int32{20, 30, 40, 31}},
		{"root's job alone", all(1000), all(0), all(0), Rule{}, nil},
		{"a setuid program ended by its user, above root's job", setuid, all(1000), all(0), Rule{}, []int32{20, 31}},
		{"a setuid program, which no rule can name", all(1000), all(1000), setuid, Rule{Match: Match{"user": []string{"1000", "0"}}}, []int32{20, 31}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := leakedTree()
			for _, p := range f.processes {
				p.UIDs = tt.root
				if p.ID == id(30) || p.ID == id(40) {
					p.UIDs = tt.member
				}
			}
			f.processes[id(20)].Leaker = &tt.leaker
			tt.rule.Name = "rule"
			var got []int32
			for _, d := range mustEngine(t, tt.rule).Evaluate(f, idleHost(), at(200*time.Second)) {
				got = append(got, pids(d.Targets)...)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("targets %v, want %v", got, tt.want)
			}
		})
	}
}

// TestStrandedBelowTheSpared wants who is an orphan itself, below one that is left out, to be
// left out with it.
func TestStrandedBelowTheSpared(t *testing.T) {
	for name, spare := range map[string]func(*Process){
		"kept":             func(p *Process) { p.Keep = true },
		"marks not known":  func(p *Process) { p.MarksKnown = false },
		"protected":        func(p *Process) { p.Comm = "sshd" },
		"out of reach":     func(p *Process) { p.UIDs = event.UIDs{Real: 1000} },
		"user not known":   func(p *Process) { p.UIDsKnown = false },
		"program not read": func(p *Process) { p.Unread = true },
	} {
		t.Run(name, func(t *testing.T) {
			f := leakedTree()
			for _, pid := range []int32{30, 40, 31} {
				orphan(verdict.Leaked, 50*time.Second)(f.processes[id(pid)])
			}
			for _, p := range f.processes {
				leaker := all(1000)
				p.Leaker, p.UIDs = &leaker, all(1000)
			}
			spare(f.processes[id(30)])
			e := mustEngine(t, Rule{Name: "rule"})
			var got []int32
			for _, d := range e.Evaluate(f, idleHost(), at(200*time.Second)) {
				got = append(got, pids(d.Targets)...)
			}
			if want := []int32{20, 31}; !slices.Equal(got, want) {
				t.Errorf("targets %v, want %v", got, want)
			}
			if why := e.Explain(f, idleHost(), id(40), at(200*time.Second))[0].Why; !strings.Contains(why, "it descends from pid 30") {
				t.Errorf("explained as %q", why)
			}
		})
	}
}

// TestUserOfNow: the user of a rule is the process's user when it is looked at, with all of
// its ids.
func TestUserOfNow(t *testing.T) {
	for _, tt := range []struct {
		name string
		now  *event.UIDs // nil where nobody can tell
		when string
		want bool
	}{
		{"the rule's user", &event.UIDs{Real: 33, Effective: 33, Saved: 33}, "", true},
		{"another's, as at its exec", &event.UIDs{Real: 1000, Effective: 1000, Saved: 1000}, "", false},
		{"the effective one is another", &event.UIDs{Real: 33, Effective: 0, Saved: 33}, "", false},
		{"the saved one is another", &event.UIDs{Real: 33, Effective: 33, Saved: 0}, "", false},
		{"not known", nil, "", false},
		{"in an expression", &event.UIDs{Real: 33, Effective: 33, Saved: 33}, "process.uid == 33 && process.user == \"www-data\"", true},
		{"in an expression, not one user's", &event.UIDs{Real: 33}, "process.uid == 33 || process.user == \"www-data\"", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newForest()
			f.add(10, 1, dead)
			p := f.add(20, 10, orphan(verdict.Leaked, 50*time.Second))
			p.UIDsKnown = false
			p.AskUIDs = func(p *Process) {
				if tt.now != nil {
					p.UIDs, p.UIDsKnown = *tt.now, true
				}
			}
			p.UserOf = func(uid uint32) string { return map[uint32]string{33: "www-data", 1000: "app"}[uid] }
			rule := Rule{Name: "rule", Match: Match{"user": []string{"www-data"}}}
			if tt.when != "" {
				rule.Match = Match{"when": tt.when}
			}
			e := mustEngine(t, rule)
			if n := len(e.Evaluate(f, idleHost(), at(200*time.Second))); (n == 1) != tt.want {
				t.Errorf("%d decisions", n)
			}
		})
	}
}

// TestReadsWhatItSpares has those read that are spared because nobody has read them.
func TestReadsWhatItSpares(t *testing.T) {
	f := leakedTree()
	var asked []event.ID
	for _, pid := range []int32{20, 30} {
		p := f.processes[id(pid)]
		p.MarksKnown, p.ReadMarks = false, func(id event.ID) { asked = append(asked, id) }
	}
	e := mustEngine(t, Rule{Name: "rule"})
	if n := len(e.Evaluate(f, idleHost(), at(200*time.Second))); n != 0 || !slices.Equal(asked, []event.ID{id(20)}) {
		t.Errorf("%d decisions, to be read %v", n, asked)
	}
	f.processes[id(20)].MarksKnown = true
	decisions := e.Evaluate(f, idleHost(), at(200*time.Second))
	if len(decisions) != 1 || len(decisions[0].Spared) != 1 || !decisions[0].Spared[0].Unread || !slices.Contains(asked, id(30)) {
		t.Errorf("decisions %+v, to be read %v", decisions, asked)
	}
}

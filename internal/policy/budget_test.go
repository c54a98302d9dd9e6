// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBudget(t *testing.T) {
	spec := BudgetSpec{KillsPerMinute: 2, WarmUp: time.Minute, Pause: 5 * time.Second, StopFile: "/run/stop"}
	s := func(n time.Duration) uint64 { return at(n * time.Second) }
	b := NewBudget(spec, s(1000))
	steps := []struct {
		name    string
		now     uint64
		stopped string
		hold    string // begins a warm-up first
		want    Grant
	}{
		{name: "warm-up", now: s(1059), want: Grant{Why: "warming up after a start", RetryAt: s(1060)}},
		{name: "stop file", now: s(1060), stopped: "the stop file /run/stop exists", want: Grant{Why: "the stop file /run/stop exists"}},
		{name: "first", now: s(1060), want: Grant{OK: true}},
		{name: "pause", now: s(1064), want: Grant{Why: "pausing for 5s after a kill", RetryAt: s(1065)}},
		{name: "second", now: s(1065), want: Grant{OK: true}},
		{name: "used up", now: s(1070), want: Grant{Why: "2 leaks were ended within a minute, which is the budget",
			RetryAt: s(1120), Exhausted: true}},
		{name: "still used up", now: s(1119), want: Grant{Why: "2 leaks were ended within a minute, which is the budget",
			RetryAt: s(1120), Exhausted: true}},
		{name: "the next minute", now: s(1120), want: Grant{OK: true}},
		{name: "resync", now: s(1200), hold: "resync", want: Grant{Why: "warming up after a resync", RetryAt: s(1260)}},
		{name: "after it", now: s(1260), want: Grant{OK: true}},
	}
	for _, step := range steps {
		if step.hold != "" {
			b.Hold(step.hold, step.now)
		}
		if why, until := b.Held(step.now); (why != "") != strings.HasPrefix(step.want.Why, "warming up") ||
			why != "" && until != step.want.RetryAt {
			t.Errorf("%s: held after a %q until %d", step.name, why, until)
		}
		if got := b.Take(step.now, "", 0, step.stopped); got != step.want {
			t.Errorf("%s: got %+v, want %+v", step.name, got, step.want)
		}
	}
}

func TestBudgetRestsAfterTheKillToo(t *testing.T) {
	b := NewBudget(BudgetSpec{KillsPerMinute: 9, Pause: 5 * time.Second}, 0)
	if got := b.Take(at(100*time.Second), "", 0, ""); !got.OK {
		t.Fatal(got)
	}
	b.Rest(at(110 * time.Second)) // the kill has taken its grace of 10 s
	if got := b.Take(at(114*time.Second), "", 0, ""); got.OK || got.RetryAt != at(115*time.Second) {
		t.Errorf("got %+v, want a retry at 115 s", got)
	}
}

// A reload changes the warm-up that runs, both ways, and keeps what was granted.
func TestBudgetReconfigure(t *testing.T) {
	spec := BudgetSpec{KillsPerMinute: 1, WarmUp: time.Minute}
	b := NewBudget(spec, at(1000*time.Second))
	spec.WarmUp = 2 * time.Minute
	b.Reconfigure(spec)
	if got := b.Take(at(1060*time.Second), "", 0, ""); got.OK || got.RetryAt != at(1120*time.Second) {
		t.Errorf("longer: got %+v, want a retry at 1120 s", got)
	}
	spec.WarmUp = 0
	b.Reconfigure(spec)
	if got := b.Take(at(1060*time.Second), "", 0, ""); !got.OK {
		t.Errorf("without: got %+v, want a grant", got)
	}
	spec.Pause = time.Minute
	b.Reconfigure(spec)
	if got := b.Take(at(1061*time.Second), "", 0, ""); !got.Exhausted {
		t.Errorf("again: got %+v, want it used up", got)
	}
	spec.KillsPerMinute = 2
	b.Reconfigure(spec)
	if got := b.Take(at(1061*time.Second), "", 0, ""); got.OK || got.RetryAt != at(1120*time.Second) {
		t.Errorf("with a pause: got %+v, want a retry at 1120 s", got)
	}
	spec.Pause = 0
	b.Reconfigure(spec)
	if got := b.Take(at(1061*time.Second), "", 0, ""); !got.OK {
		t.Errorf("without a pause: got %+v, want a grant", got)
	}
}

// TestBudgetHolds: never more grants than the budget within any minute, none closer
// than the pause, none during a warm-up or with a stop file, and a retry that is
// followed is granted.
func TestBudgetHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := BudgetSpec{
			KillsPerMinute: rapid.IntRange(1, 4).Draw(t, "budget"),
			WarmUp:         time.Duration(rapid.IntRange(0, 90).Draw(t, "warm-up")) * time.Second,
			Pause:          time.Duration(rapid.IntRange(0, 30).Draw(t, "pause")) * time.Second,
		}
		now := at(time.Hour)
		b := NewBudget(spec, now)
		warm := after(now, spec.WarmUp)
		var granted []uint64
		leaks := make(map[string]uint64)
		for range rapid.IntRange(1, 60).Draw(t, "asks") {
			now = after(now, time.Duration(rapid.IntRange(0, 20).Draw(t, "step"))*time.Second)
			if rapid.IntRange(0, 20).Draw(t, "resync") == 0 {
				b.Hold("resync", now)
				warm = max(warm, after(now, spec.WarmUp))
			}
			stopped := rapid.SampledFrom([]string{"", "", "", "", "", "", "", "the stop file exists"}).Draw(t, "stopped")
			leak := rapid.SampledFrom([]string{"", "L1", "L2"}).Draw(t, "leak")
			g := b.Take(now, leak, 0, stopped)
			if !g.OK {
				if g.Why == "" || stopped == "" && g.RetryAt <= now {
					t.Fatalf("refused without a way on: %+v at %d", g, now)
				}
				continue
			}
			if stopped != "" || now < warm {
				t.Fatalf("granted at %d, stopped %q, warming up until %d", now, stopped, warm)
			}
			if since, paid := leaks[leak]; leak != "" && paid && now-since < uint64(minute) {
				continue // the rest of a leak that is paid for
			}
			leaks[leak] = now
			granted = append(granted, now)
			if n := len(granted); n > 1 && now-granted[n-2] < uint64(spec.Pause) {
				t.Fatalf("granted twice within the pause: %v", granted)
			}
			if n := len(granted) - spec.KillsPerMinute; n > 0 && now-granted[n-1] < uint64(minute) {
				t.Fatalf("more than %d within a minute: %v", spec.KillsPerMinute, granted)
			}
		}
	})
}

// TestBudgetShares wants one user's leaks, and those of many users, to leave kills to others,
// and one to root whatever comes.
func TestBudgetShares(t *testing.T) {
	for _, perMinute := range []int{2, 3, 10, 100} {
		b := NewBudget(BudgetSpec{KillsPerMinute: perMinute}, 0)
		taken := func(uid uint32, now time.Duration) (n int) {
			for b.Take(at(now), "", uid, "").OK {
				n++
			}
			return n
		}
		now := 100 * time.Second
		if n := taken(1000, now); n != (perMinute)/2 {
			t.Errorf("%d a minute: the first user has %d", perMinute, n)
		}
		if n := taken(1001, now); perMinute >= 10 && (n == 0 || n > perMinute/3) {
			t.Errorf("%d a minute: the second user has %d", perMinute, n)
		}
		for uid := range uint32(20) {
			taken(2000+uid, now)
		}
		refused := b.Take(at(now), "", 1000, "")
		if refused.OK || !refused.Exhausted || refused.RetryAt != at(now+time.Minute) {
			t.Errorf("%d a minute: %+v", perMinute, refused)
		}
		if n := taken(0, now); n < 1 {
			t.Errorf("%d a minute: nothing is left to root", perMinute)
		}
		if n := taken(1000, now+time.Minute); n != perMinute/2 {
			t.Errorf("%d a minute: the first user has %d in the next", perMinute, n)
		}
	}
	b := NewBudget(BudgetSpec{KillsPerMinute: 1}, 0)
	if !b.Take(at(time.Second), "", 1000, "").OK {
		t.Error("a budget of one is nobody's")
	}
}

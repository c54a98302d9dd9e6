// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/wire"
)

const (
	one = "F0123456789ab"
	two = "F0123456789cd"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func until(d time.Duration) *time.Time {
	t := noon.Add(d)
	return &t
}

func TestDecide(t *testing.T) {
	tests := []struct {
		name string
		give wire.Trust
		want string // the refusal; empty is none
	}{
		{"ack", wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Reason: "known", Until: until(time.Hour)}, ""},
		{"ack of 30d", wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Reason: "known", Until: until(MaxAck)}, ""},
		{"ack of more", wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Reason: "known", Until: until(MaxAck + 1)}, "30d at most"},
		{"ack without end", wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Reason: "known"}, "30d at most"},
		{"ack of nothing", wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Reason: "known", Until: until(0)}, "more than nothing"},
		{"ignore", wire.Trust{Kind: wire.TrustIgnore, Fingerprint: one, Reason: "known"}, ""},
		{"suspend", wire.Trust{Kind: wire.TrustSuspend, Fingerprint: one, Rule: "r", Reason: "known"}, ""},
		{"suspend no rule", wire.Trust{Kind: wire.TrustSuspend, Fingerprint: one, Reason: "known"}, "of a rule"},
		{"no reason", wire.Trust{Kind: wire.TrustIgnore, Fingerprint: one}, "reason"},
		{"no fingerprint", wire.Trust{Kind: wire.TrustIgnore, Fingerprint: "F01\n", Reason: "x"}, "no fingerprint"},
		{"no kind", wire.Trust{Kind: "forget", Fingerprint: one, Reason: "x"}, "none of ack"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := New()
			tt.give.Since = noon
			_, err := b.Decide(tt.give)
			if tt.want == "" {
				if err != nil || len(b.All(noon)) != 1 {
					t.Errorf("refused: %v, %v", err, b.All(noon))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(b.All(noon)) != 0 {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func must(t *testing.T, b *Book, trust wire.Trust) {
	t.Helper()
	trust.Since, trust.Reason = noon, "a reason"
	if _, err := b.Decide(trust); err != nil {
		t.Fatal(err)
	}
}

// TestHolds: an ack mutes until it is over and keeps no rule off; ignore keeps all rules off,
// a suspension one; forget ends all of it.
func TestHolds(t *testing.T) {
	b := New()
	must(t, b, wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Until: until(time.Hour)})
	if !b.Acked(one, noon) || b.Acked(two, noon) || b.Acked(one, noon.Add(time.Hour)) || b.Exempts() || b.Exempt(one, "r") != "" {
		t.Error("an ack of one")
	}
	must(t, b, wire.Trust{Kind: wire.TrustSuspend, Fingerprint: one, Rule: "r"})
	if !b.Exempts() || !strings.Contains(b.Exempt(one, "r"), "suspended") || b.Exempt(one, "other") != "" || b.Exempt(two, "r") != "" {
		t.Error("a suspension of r for one")
	}
	must(t, b, wire.Trust{Kind: wire.TrustIgnore, Fingerprint: two, By: &wire.TrustBy{UID: 7, User: "bob"}})
	if why := b.Exempt(two, "any"); !strings.Contains(why, "ignored by bob: a reason") {
		t.Errorf("ignored: %q", why)
	}
	if got := b.Of(one, noon); len(got) != 2 {
		t.Errorf("of one: %v", got)
	}
	b.Expire(noon.Add(2 * time.Hour))
	if b.HasAcks() || !b.Suspended(one, "r") {
		t.Error("after the ack is over")
	}
	if !b.Forget(one) || b.Forget(one) || b.Suspended(one, "r") || b.Exempt(two, "any") == "" {
		t.Error("forget one, and no other")
	}
}

// TestRestore: a book outlives its process, bit for bit.
func TestRestore(t *testing.T) {
	b := New()
	must(t, b, wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Until: until(time.Hour), Name: "sh -c {path}", By: &wire.TrustBy{UID: 0, User: "root", PID: 4}})
	must(t, b, wire.Trust{Kind: wire.TrustIgnore, Fingerprint: two})
	must(t, b, wire.Trust{Kind: wire.TrustSuspend, Fingerprint: two, Rule: "r"})
	b.Ended("r", 3, 4096, noon)
	text, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again := New()
	if err := again.Restore(text); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.All(noon), again.All(noon)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(b.Rule("r"), again.Rule("r")); diff != "" {
		t.Error(diff)
	}
	if err := New().Restore([]byte("{")); err == nil {
		t.Error("half a file is taken")
	}
	if err := New().Restore(nil); err != nil {
		t.Error(err)
	}
}

func TestToday(t *testing.T) {
	b := New()
	for _, ago := range []time.Duration{25 * time.Hour, 23 * time.Hour, time.Hour} {
		b.Ended("r", 1, 0, noon.Add(-ago))
	}
	if n, next := b.Today("r", noon); n != 2 || !next.Equal(noon.Add(time.Hour)) {
		t.Errorf("got %d, next %v", n, next)
	}
	if n, _ := b.Today("other", noon); n != 0 {
		t.Errorf("other: %d", n)
	}
	if r := b.Rule("r"); r.Leaks != 3 || r.Processes != 3 {
		t.Errorf("in all: %+v", r)
	}
}

// TestHostile: what processes and people write stays within a line.
func TestHostile(t *testing.T) {
	s := Sentence(&wire.Trust{Action: wire.TrustIgnore, Fingerprint: one, Name: "a\nb\x1b[31m", Reason: "c\rd", By: &wire.TrustBy{User: "e\nf"}})
	if strings.ContainsAny(s, "\n\r\x1b") {
		t.Errorf("%q", s)
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"entries":[{"kind":"ack","fingerprint":"F0123456789ab","reason":"x","since":"2026-11-29T12:00:00Z","until":"2026-11-30T12:00:00Z"}],"rules":{"r":{"leaks":1}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := New()
		_ = b.Restore(text)
		for _, e := range b.All(noon) {
			if !IsFingerprint(e.Fingerprint) || e.Reason == "" {
				t.Errorf("taken: %+v", e)
			}
			b.Acked(e.Fingerprint, noon)
		}
		if _, err := b.Encode(); err != nil {
			t.Error(err)
		}
	})
}

// TestDistrust: where entries may be missing, no rule ends anything until root decides anew, a
// successor of the daemon included.
func TestDistrust(t *testing.T) {
	lost := func() *Book {
		b := New()
		b.Distrust("bad\x1b checksum")
		text, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		restored := New()
		if err := restored.Restore(text); err != nil {
			t.Fatal(err)
		}
		return restored
	}
	for name, tt := range map[string]struct {
		act  func(b *Book) error
		ends bool
	}{
		"nothing": {act: func(*Book) error { return nil }},
		"ack": {act: func(b *Book) error {
			_, err := b.Decide(wire.Trust{Kind: wire.TrustAck, Fingerprint: one, Reason: "r", Since: noon, Until: until(time.Hour)})
			return err
		}},
		"suspend": {act: func(b *Book) error {
			_, err := b.Decide(wire.Trust{Kind: wire.TrustSuspend, Fingerprint: one, Reason: "r", Rule: "other", Since: noon})
			return err
		}},
		"ignore": {ends: true, act: func(b *Book) error {
			_, err := b.Decide(wire.Trust{Kind: wire.TrustIgnore, Fingerprint: one, Reason: "r", Since: noon})
			return err
		}},
		"forget": {ends: true, act: func(b *Book) error {
			if !b.Forget(one) {
				return errors.New("there was nothing to forget")
			}
			return nil
		}},
	} {
		b := lost()
		if err := tt.act(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		why := b.Exempt(two, "all")
		if ends := !b.Exempts() || why == ""; ends != tt.ends || strings.ContainsRune(why, 0x1b) {
			t.Errorf("%s: exempt %q", name, why)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package trust keeps what was decided about fingerprints of leaks, by people and by the
// daemon, and what armed rules have ended: how far ending them is trusted.
//
// It is pure: no clock, no I/O. Times are the wall clock's, since decisions outlive a boot.
// A Book belongs to one goroutine.
package trust

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Bounds of what is kept.
const (
	MaxAck     = 30 * 24 * time.Hour // how long an ack may hold
	MaxEntries = 4096
	maxReason  = 512 // bytes
	maxName    = 160
	maxRules   = 1024
	day        = 24 * time.Hour
	// maxRecent is how many kills of a rule are counted for its day; a limit is smaller.
	maxRecent = 1000
)

// A RefusedError is a decision that makes no sense.
type RefusedError struct{ text string }

func (e *RefusedError) Error() string { return e.text }

func refuse(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

// A Book is all that was decided. Make it with New.
type Book struct {
	entries map[key]wire.Trust
	rules   map[string]*Record
	acks    int // of entries
	// lost says why entries may be missing; empty where none is.
	lost string
}

type key struct{ fingerprint, kind, rule string }

// A Record is what a rule has ended.
type Record struct {
	Leaks     uint64      `json:"leaks"`
	Processes uint64      `json:"processes"`
	Bytes     uint64      `json:"bytes"`
	Recent    []time.Time `json:"recent,omitempty"` // its kills within a day, oldest first
}

// New returns an empty book.
func New() *Book {
	return &Book{entries: make(map[key]wire.Trust), rules: make(map[string]*Record)}
}

var fingerprint = regexp.MustCompile(`^F[0-9a-f]{12}$`)

// IsFingerprint reports whether s is the id of a fingerprint.
func IsFingerprint(s string) bool { return fingerprint.MatchString(s) }

// Decide notes a decision: of the same kind about the same fingerprint it replaces the one
// before. Its error is a [RefusedError].
func (b *Book) Decide(t wire.Trust) (wire.Trust, error) {
	t.Reason, t.Name = clip(t.Reason, maxReason), clip(t.Name, maxName)
	switch {
	case !IsFingerprint(t.Fingerprint):
		return t, refuse("%.40q is no fingerprint: want F and 12 hexadecimal digits", t.Fingerprint)
	case t.Reason == "":
		return t, refuse("a reason is missing")
	case t.Kind == wire.TrustAck && (t.Until == nil || !t.Until.After(t.Since) || t.Until.Sub(t.Since) > MaxAck):
		return t, refuse("an ack holds for more than nothing and 30d at most")
	case t.Kind == wire.TrustSuspend && t.Rule == "":
		return t, refuse("a suspension is of a rule")
	case t.Kind != wire.TrustAck && t.Kind != wire.TrustIgnore && t.Kind != wire.TrustSuspend:
		return t, refuse("%.40q is none of ack, ignore, suspend", t.Kind)
	}
	if t.Kind != wire.TrustAck {
		t.Until = nil
	}
	t.Action = ""
	k := key{t.Fingerprint, t.Kind, t.Rule}
	if _, known := b.entries[k]; !known && len(b.entries) >= MaxEntries {
		return t, refuse("%d decisions are kept, which is the most: forget some", MaxEntries)
	}
	b.entries[k] = t
	b.count()
	if t.Kind == wire.TrustIgnore {
		b.lost = ""
	}
	t.Action = t.Kind
	return t, nil
}

// Distrust notes that entries may be missing, and why. Nothing is ended by a rule from then on,
// until somebody has entries ignored or forgotten: who was to be kept is not known.
func (b *Book) Distrust(why string) { b.lost = clip(why, maxReason) }

// Forget drops all that was decided about a fingerprint, and that entries are missing. It
// reports whether there was any of this.
func (b *Book) Forget(fingerprint string) bool {
	before, lost := len(b.entries), b.lost != ""
	b.lost = ""
	maps.DeleteFunc(b.entries, func(k key, _ wire.Trust) bool { return k.fingerprint == fingerprint })
	b.count()
	return lost || len(b.entries) < before
}

func (b *Book) count() {
	b.acks = 0
	for k := range b.entries {
		if k.kind == wire.TrustAck {
			b.acks++
		}
	}
}

// Expire drops acks that hold no more.
func (b *Book) Expire(now time.Time) {
	maps.DeleteFunc(b.entries, func(_ key, t wire.Trust) bool { return t.Until != nil && !now.Before(*t.Until) })
	b.count()
}

// Acked reports whether nobody is to be sent a notice of leaks of the fingerprint.
func (b *Book) Acked(fingerprint string, now time.Time) bool {
	t, ok := b.entries[key{fingerprint, wire.TrustAck, ""}]
	return ok && now.Before(*t.Until)
}

// HasAcks reports whether anything is acked.
func (b *Book) HasAcks() bool { return b.acks > 0 }

// Exempts reports whether anything keeps rules from what they match.
func (b *Book) Exempts() bool { return b.lost != "" || len(b.entries) > b.acks }

// Exempt says why the rule ends no leak of the fingerprint, or nothing.
func (b *Book) Exempt(fingerprint, rule string) string {
	if b.lost != "" {
		return "what was decided about leaks could not be read: " + safetext.Terminal(b.lost) +
			"; rules go on when root has run leaks import, ignore or forget"
	}
	if t, ok := b.entries[key{fingerprint, wire.TrustIgnore, ""}]; ok {
		return fmt.Sprintf("its leak's fingerprint %s is ignored by %s: %s", fingerprint, Decider(t.By), safetext.Terminal(t.Reason))
	}
	if t, ok := b.entries[key{fingerprint, wire.TrustSuspend, rule}]; ok {
		return fmt.Sprintf("the rule is suspended for its leak's fingerprint %s: %s", fingerprint, safetext.Terminal(t.Reason))
	}
	return ""
}

// Suspended reports whether the rule is suspended for the fingerprint.
func (b *Book) Suspended(fingerprint, rule string) bool {
	_, ok := b.entries[key{fingerprint, wire.TrustSuspend, rule}]
	return ok
}

// Decider is who decided something, for people.
func Decider(by *wire.TrustBy) string {
	switch {
	case by == nil:
		return "the daemon"
	case by.User != "":
		return safetext.Field(by.User)
	}
	return fmt.Sprintf("user %d", by.UID)
}

// Of returns what holds of a fingerprint, ignore first.
func (b *Book) Of(fingerprint string, now time.Time) (list []wire.Trust) {
	for k, t := range b.entries {
		if k.fingerprint == fingerprint && (t.Until == nil || now.Before(*t.Until)) {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, compare)
	return list
}

// All returns what holds now, by fingerprint.
func (b *Book) All(now time.Time) []wire.Trust {
	list := make([]wire.Trust, 0, len(b.entries))
	for _, t := range b.entries {
		if t.Until == nil || now.Before(*t.Until) {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, compare)
	return list
}

func compare(a, b wire.Trust) int {
	return cmp.Or(strings.Compare(a.Fingerprint, b.Fingerprint), -strings.Compare(a.Kind, b.Kind), strings.Compare(a.Rule, b.Rule))
}

// Ended notes that the rule has ended something.
func (b *Book) Ended(rule string, processes, bytes uint64, at time.Time) {
	r := b.rules[rule]
	if r == nil {
		if len(b.rules) >= maxRules {
			return
		}
		r = &Record{}
		b.rules[rule] = r
	}
	r.Leaks++
	r.Processes += processes
	r.Bytes += bytes
	r.Recent = append(r.Recent, at)
	r.Recent = r.Recent[max(0, len(r.Recent)-maxRecent):]
}

// Rule returns what the rule has ended.
func (b *Book) Rule(rule string) Record {
	if r := b.rules[rule]; r != nil {
		return *r
	}
	return Record{}
}

// Today is how many of the rule's kills were within the day before now; next is when one of
// them is older than that, zero where there is none.
func (b *Book) Today(rule string, now time.Time) (n int, next time.Time) {
	for _, at := range b.Rule(rule).Recent {
		if now.Sub(at) >= day || at.After(now) {
			continue
		}
		if n++; n == 1 {
			next = at.Add(day)
		}
	}
	return n, next
}

// file is a book as it is saved.
type file struct {
	Entries []wire.Trust       `json:"entries"`
	Rules   map[string]*Record `json:"rules"`
	Lost    string             `json:"lost,omitempty"`
}

// Encode is the form in which a book is saved. It shares nothing with it.
func (b *Book) Encode() ([]byte, error) {
	f := file{Rules: b.rules, Lost: b.lost}
	for _, t := range b.entries {
		f.Entries = append(f.Entries, t)
	}
	slices.SortFunc(f.Entries, compare)
	return json.Marshal(f)
}

// Restore takes what Encode has written into an empty book; nothing is an empty one.
func (b *Book) Restore(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("decisions: %w", err)
	}
	var errs []error
	for _, t := range f.Entries {
		if _, err := b.Decide(t); err != nil {
			errs = append(errs, fmt.Errorf("decision on %.40s: %w", t.Fingerprint, err))
		}
	}
	b.lost = clip(f.Lost, maxReason)
	for name, r := range f.Rules {
		if r != nil && len(b.rules) < maxRules {
			b.rules[name] = r
		}
	}
	return errors.Join(errs...)
}

// clip cuts s to at most n bytes, between two runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Sentence tells of a decision in one line.
func Sentence(t *wire.Trust) string {
	what := t.Fingerprint
	if t.Name != "" {
		what += " (" + safetext.Terminal(t.Name) + ")"
	}
	rule := safetext.Field(t.Rule)
	s := ""
	switch cmp.Or(t.Action, t.Kind) {
	case wire.TrustAck:
		s = "leaks of " + what + " are known"
		if t.Until != nil {
			s += " until " + t.Until.UTC().Format("2006-01-02 15:04") + " UTC"
		}
		s += ": nobody is sent a notice"
	case wire.TrustIgnore:
		s = "leaks of " + what + " are ignored: no rule ends them"
	case wire.TrustSuspend:
		return "rule " + rule + " is suspended for leaks of " + what + ": " + safetext.Terminal(t.Reason)
	case wire.TrustForget:
		s = "what was decided about leaks of " + what + " is forgotten"
	case wire.TrustArm:
		s = "rule " + rule + " is armed"
	case wire.TrustDisarm:
		s = "rule " + rule + " is disarmed"
	}
	s += ", says " + Decider(t.By)
	if t.Reason != "" {
		s += ": " + safetext.Terminal(t.Reason)
	}
	return s
}

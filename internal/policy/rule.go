// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/verdict"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Actions of a rule, as the configuration spells them. Its modes and scopes are words of
// package wire.
const (
	ActionKill   = "kill"
	ActionNotify = "notify"
)

// Actions and Verdicts list the valid words.
var (
	Actions  = []string{ActionKill, ActionNotify}
	Verdicts = []string{verdict.Leaked, verdict.Deliberate, verdict.Unknown}
)

// maxPattern bounds the text of a regular expression or an expression, in bytes.
const maxPattern = 4096

// Rule is one rule as it is written. Empty fields match anything, except that a rule
// which kills and names no verdict means leaked only.
type Rule struct {
	Name string
	Mode string // ModeObserve when empty

	Verdict []string
	Match   Match         // what else it matches on: see Fields
	For     time.Duration // how long all of it must have held

	Action string // ActionKill when empty
	Scope  string // ScopeTree when empty
	Grace  time.Duration
}

// A FieldError says which field of which rule is invalid, and why; without a rule, it
// is a field of the operator's additions to the protected set. Line and Column
// locate the fault within the field's text where that is known, from 1.
type FieldError struct {
	Rule         string
	Field        string
	Line, Column int
	Err          error
}

// Error returns the whole message.
func (e *FieldError) Error() string {
	if e.Rule == "" {
		return fmt.Sprintf("protect: %s: %v", e.Field, e.Err)
	}
	return fmt.Sprintf("rule %q: %s: %v", e.Rule, e.Field, e.Err)
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// rule is a Rule compiled: its conditions in the order of their cost.
type rule struct {
	Rule
	conditions []condition
	ofTree     []condition // those that look at nothing beyond the process's own tree
	narrowed   bool        // it matches on a field that narrows
	needs      Needs       // of all its fields
}

// compile checks r and returns it ready to be evaluated.
func compile(r Rule) (*rule, error) {
	r.Mode = cmp.Or(r.Mode, wire.ModeObserve)
	r.Action = cmp.Or(r.Action, ActionKill)
	r.Scope = cmp.Or(r.Scope, wire.ScopeTree)
	if len(r.Verdict) == 0 {
		r.Verdict = Verdicts
		if r.Action == ActionKill {
			r.Verdict = []string{verdict.Leaked}
		}
	}
	if err := checkWords(&r); err != nil {
		return nil, err
	}
	c := &rule{Rule: r}
	if err := c.compileConditions(); err != nil {
		return nil, err
	}
	return c, nil
}

func checkWords(r *Rule) error {
	words := []struct {
		field string
		given []string
		valid []string
	}{
		{"mode", []string{r.Mode}, wire.Modes},
		{"action", []string{r.Action}, Actions},
		{"scope", []string{r.Scope}, wire.Scopes},
		{"verdict", r.Verdict, Verdicts},
	}
	if r.Name == "" {
		return &FieldError{Rule: "(unnamed)", Field: "name", Err: fmt.Errorf("is missing")}
	}
	for _, w := range words {
		for _, word := range w.given {
			if !slices.Contains(w.valid, word) {
				return &FieldError{Rule: r.Name, Field: w.field,
					Err: fmt.Errorf("%q is none of %s", word, strings.Join(w.valid, ", "))}
			}
		}
	}
	return nil
}

// compileRE2 compiles a pattern of bounded length. Its errors are the library's
// without the prefix that repeats the pattern's kind.
func compileRE2(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("the pattern has %d bytes, more than %d", len(pattern), maxPattern)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re, nil
}

// glob is a shell pattern that must match the whole text.
type glob struct {
	pattern string
	literal bool
}

func parseGlobs(patterns []string) ([]glob, error) {
	globs := make([]glob, 0, len(patterns))
	for _, p := range patterns {
		if p == "" {
			return nil, fmt.Errorf("an empty pattern matches nothing")
		}
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("%q: syntax error in pattern", p)
		}
		globs = append(globs, glob{p, !strings.ContainsAny(p, `*?[\`)})
	}
	return globs, nil
}

func (g glob) match(s string) bool {
	if g.literal {
		return s == g.pattern
	}
	ok, _ := path.Match(g.pattern, s)
	return ok
}

func matchAny(globs []glob, s string) bool {
	for _, g := range globs {
		if g.match(s) {
			return true
		}
	}
	return false
}

// Check reports whether r is valid, as a [FieldError].
func (r Rule) Check() error {
	_, err := compile(r)
	return err
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"slices"

	"github.com/abot-trace/abot-trace/internal/nearest"
)

// Override changes a rule of another file: it replaces each field that it names, lists too.
// Arming is not its business: see [Config.Enforce].
type Override struct {
	At     Pos
	Name   Text     `yaml:"name"`
	Off    Bool     `yaml:"off"` // removes the rule
	Match  Match    `yaml:"match"`
	Fields Fields   `yaml:",inline"` // beside match
	For    Duration `yaml:"for"`
	Action Text     `yaml:"action"`
	Scope  Text     `yaml:"scope"`
	Grace  Duration `yaml:"grace"`
}

// override applies the overrides to the merged rules, in the order of their files. It returns
// the names of the rules that were removed.
func (c *Config) override(r *report) (off []string) {
	for i := range c.Override {
		o := &c.Override[i]
		at := slices.IndexFunc(c.Rules, func(rule Rule) bool { return rule.Name.Value == o.Name.Value })
		switch {
		case o.Name.Value == "":
			r.add(o.At, "an override without the name of a rule")
		case at < 0 && slices.Contains(off, o.Name.Value): // it changes what another has removed
		case at < 0:
			var names []string
			for i := range c.Rules {
				names = append(names, c.Rules[i].Name.Value)
			}
			r.add(o.Name.At, "override: no rule is named %q%s", o.Name.Value, nearest.Hint(o.Name.Value, names...))
		case o.Off.Value:
			off = append(off, o.Name.Value)
			c.Rules = slices.Delete(c.Rules, at, at+1)
		default:
			o.apply(&c.Rules[at])
		}
	}
	return off
}

func (o *Override) apply(rule *Rule) {
	if o.Match.Verdict != nil {
		rule.Match.Verdict = o.Match.Verdict
	}
	rule.Match.Fields = replaced(rule.Match.Fields, o.Match.Fields)
	rule.Fields = replaced(rule.Fields, o.Fields)
	if o.For.At.IsSet() {
		rule.For = o.For
	}
	if o.Action.At.IsSet() {
		rule.Action = o.Action
	}
	if o.Scope.At.IsSet() {
		rule.Scope = o.Scope
	}
	if o.Grace.At.IsSet() {
		rule.Grace = o.Grace
	}
}

// replaced is the fields with those that an override names in their place.
func replaced(fields, by Fields) Fields {
	if len(by) == 0 {
		return fields
	}
	all := maps.Clone(fields)
	if all == nil {
		all = make(Fields, len(by))
	}
	maps.Copy(all, by)
	return all
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"strings"

	"github.com/abot-trace/abot-trace/internal/policy"
)

// Fields are the values of those [policy.Fields] that a file gives, by their names: each a
// pointer to what its form decodes into.
type Fields map[string]any

// forms says what each form of a field decodes into, and what a rule takes of that.
var forms = map[policy.Form]struct {
	target func() any
	value  func(target any) any
	at     func(target any) Pos
}{
	policy.FormTexts: {
		func() any { return new([]Text) },
		func(v any) any { return values(*v.(*[]Text)) },
		func(v any) Pos {
			if texts := *v.(*[]Text); len(texts) > 0 {
				return texts[0].At
			}
			return Pos{}
		},
	},
	policy.FormText: {
		func() any { return new(Text) },
		func(v any) any { return v.(*Text).Value },
		func(v any) Pos { return v.(*Text).At },
	},
	policy.FormDuration: {
		func() any { return new(Duration) },
		func(v any) any { return v.(*Duration).Value },
		func(v any) Pos { return v.(*Duration).At },
	},
	policy.FormSize: {
		func() any { return new(Size) },
		func(v any) any { return v.(*Size).Bytes },
		func(v any) Pos { return v.(*Size).At },
	},
	policy.FormFlag: {
		func() any { return new(Bool) },
		func(v any) any { return v.(*Bool).Value },
		func(v any) Pos { return v.(*Bool).At },
	},
	policy.FormCount: {
		func() any { return new(Int) },
		func(v any) any { return v.(*Int).Value },
		func(v any) Pos { return v.(*Int).At },
	},
}

// inline is the tag of a Fields in a struct; behind it stands the path of its fields.
const inline = ",inline"

// inlined returns the fields that stand directly below the path of a tag.
func inlined(tag string) (fields []*policy.Field) {
	under := strings.TrimPrefix(strings.TrimPrefix(tag, inline), "=")
	for i := range policy.Fields {
		f := &policy.Fields[i]
		if rest, ok := strings.CutPrefix(f.Path, under); ok && rest == f.Name() {
			fields = append(fields, f)
		}
	}
	return fields
}

// target returns what the field decodes into, which is kept in v.
func target(v reflect.Value, f *policy.Field) reflect.Value {
	values := v.Addr().Interface().(*Fields)
	if *values == nil {
		*values = make(Fields)
	}
	to := forms[f.Form].target()
	(*values)[f.Name()] = to
	return reflect.ValueOf(to).Elem()
}

// given calls fn for each field that the rule gives.
func (r *Rule) given(fn func(f *policy.Field, target any)) {
	for i := range policy.Fields {
		f := &policy.Fields[i]
		for _, from := range []Fields{r.Match.Fields, r.Fields} {
			if to, ok := from[f.Name()]; ok {
				fn(f, to)
			}
		}
	}
}

// match is what the rule matches on, nil where it names nothing.
func (r *Rule) match() (m policy.Match) {
	r.given(func(f *policy.Field, target any) {
		if m == nil {
			m = make(policy.Match)
		}
		m[f.Name()] = forms[f.Form].value(target)
	})
	return m
}

// fieldAt returns where the field of a [policy.FieldError] stands.
func (r *Rule) fieldAt(name string) (at Pos, text string) {
	at = r.At
	r.given(func(f *policy.Field, target any) {
		if pos := forms[f.Form].at(target); f.Name() == name && pos.IsSet() {
			at = pos
			if t, ok := target.(*Text); ok {
				text = t.Value
			}
		}
	})
	return at, text
}

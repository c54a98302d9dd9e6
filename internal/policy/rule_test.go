// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name  string
		rule  Rule
		field string
		want  string
	}{
		{"plain", Rule{Name: "a"}, "", ""},
		{"no name", Rule{}, "name", `rule "(unnamed)": name: is missing`},
		{"mode", Rule{Name: "a", Mode: "kill"}, "mode", `rule "a": mode: "kill" is none of observe, enforce`},
		{"action", Rule{Name: "a", Action: "x"}, "action", `rule "a": action: "x" is none of kill, notify`},
		{"scope", Rule{Name: "a", Scope: "x"}, "scope", `rule "a": scope: "x" is none of tree, process`},
		{"verdict", Rule{Name: "a", Verdict: []string{"x"}}, "verdict",
			`rule "a": verdict: "x" is none of leaked, deliberate, unknown`},
		{"unit", Rule{Name: "a", Match: Match{"unit": []string{"a["}}}, "unit", `rule "a": unit: "a[": syntax error in pattern`},
		{"empty exe", Rule{Name: "a", Match: Match{"exe": []string{""}}}, "exe", `rule "a": exe: an empty pattern matches nothing`},
		{"cmdline", Rule{Name: "a", Match: Match{"cmdline": "*"}}, "cmdline",
			"rule \"a\": cmdline: missing argument to repetition operator: `*`"},
		{"spawned_by", Rule{Name: "a", Match: Match{"spawned_by": strings.Repeat("a", 5000)}}, "spawned_by",
			`rule "a": spawned_by: the pattern has 5000 bytes, more than 4096`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.rule.Check()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var field *FieldError
			if !errors.As(err, &field) || field.Field != tt.field || err.Error() != tt.want {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

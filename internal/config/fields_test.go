// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/policy"
)

// TestEveryFieldIsRead wants each field that a rule can match on to be read where it stands,
// by its form, and to be misplaced elsewhere.
func TestEveryFieldIsRead(t *testing.T) {
	texts := map[policy.Form]string{
		policy.FormTexts: "[a, b]", policy.FormText: `"true"`, policy.FormDuration: "90s", policy.FormSize: "500MB",
		policy.FormCount: "16", policy.FormFlag: "true",
	}
	for i := range policy.Fields {
		f := &policy.Fields[i]
		if _, ok := forms[f.Form]; !ok || texts[f.Form] == "" {
			t.Errorf("%s: form %d is not read", f.Path, f.Form)
			continue
		}
		in, beside := "    match: {%s: %s}", "    %s: %s"
		if !strings.HasPrefix(f.Path, "match.") {
			in, beside = beside, in
		}
		text := texts[f.Form]
		if len(f.Words) > 0 {
			text = f.Words[0]
		}
		if f.Example != "" {
			text = "[5173, " + f.Example + "]"
		}
		head := "rules:\n  - name: r\n"
		c, err := Parse("test.yaml", []byte(head+fmt.Sprintf(in, f.Name(), text)+"\n"))
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
			continue
		}
		if m := c.Rules[0].match(); len(m) != 1 || m[f.Name()] == nil {
			t.Errorf("%s: read as %v", f.Path, m)
		}
		if at, _ := c.Rules[0].fieldAt(f.Name()); at.Line != 3 {
			t.Errorf("%s: stands in line %d, want 3", f.Path, at.Line)
		}
		if _, err := Parse("test.yaml", []byte(head+fmt.Sprintf(beside, f.Name(), text)+"\n")); err == nil {
			t.Errorf("%s: read where it does not belong", f.Path)
		}
	}
}

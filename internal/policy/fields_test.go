// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite what is made of Fields in the manual page")

// TestFieldsAreComplete wants an entry to say all that is made of it.
func TestFieldsAreComplete(t *testing.T) {
	values := map[Form]any{FormTexts: []string{"a"}, FormText: "true", FormDuration: time.Second, FormSize: uint64(1), FormCount: 1, FormFlag: true}
	seen := make(map[string]bool)
	for i := range Fields {
		f := &Fields[i]
		name := f.Name()
		if seen[name] {
			t.Errorf("%s: a second field of that name", name)
		}
		seen[name] = true
		if f.Path != name && f.Path != "match."+name {
			t.Errorf("%s: the path is neither in match nor beside it", f.Path)
		}
		if f.Manual == "" || !strings.HasSuffix(f.Manual, ".") {
			t.Errorf("%s: no sentence for the manual page: %q", name, f.Manual)
		}
		value, known := values[f.Form]
		if f.Example != "" {
			value = []string{f.Example}
		}
		if len(f.Words) > 0 {
			value = f.Words[0]
		}
		if !known || !f.Form.holds(value) {
			t.Errorf("%s: form %d has no type", name, f.Form)
			continue
		}
		r, err := compile(Rule{Name: "r", Match: Match{name: value}})
		if err != nil || len(r.conditions) != 2 || r.narrowed != f.Narrows || r.needs != f.Needs {
			t.Errorf("%s: compiles to %+v, %v", name, r, err)
		}
		var fault *FieldError
		if err := (Rule{Name: "r", Match: Match{name: struct{}{}}}).Check(); err != nil && (!errors.As(err, &fault) || fault.Field != name) {
			t.Errorf("%s: a value of another type: %v", name, err)
		} else if err == nil {
			t.Errorf("%s: takes a value of another type", name)
		}
	}
	if err := (Rule{Name: "r", Match: Match{"usr": []string{"a"}}}).Check(); err == nil {
		t.Error("a field that does not exist is taken")
	}
}

// TestFieldsInManual wants the manual page to tell of each field what its entry says, in
// their order. With -update it is made to.
func TestFieldsInManual(t *testing.T) {
	const path, begin, end = "../../docs/abot-trace.yaml.5.md", "**match.user**\n", "**for**\n"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range Fields {
		fmt.Fprintf(&want, "**%s**\n: %s\n\n", Fields[i].Path, Fields[i].Manual)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: no %q or no %q", path, begin, end)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got = begin + got; got != want.String() {
		t.Errorf("%s tells\n%s\nwant\n%s\nrun the test with -update", path, got, want.String())
	}
}

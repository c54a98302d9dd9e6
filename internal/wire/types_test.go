// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite what is made of EventTypes in docs/events.md")

// TestEventTypesAreComplete wants an entry for every constant, and every own object of an
// event under the name of a type, in the order of the types.
func TestEventTypesAreComplete(t *testing.T) {
	declared := make(map[string]bool)
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Type") && len(spec.Values) == 1 {
			if text, ok := spec.Values[0].(*ast.BasicLit); ok {
				name, _ := strconv.Unquote(text.Value)
				declared[name] = true
			}
		}
		return true
	})
	ids := make(map[string]bool)
	for i := range EventTypes {
		e := &EventTypes[i]
		if !declared[e.Name] {
			t.Errorf("%q has no constant, or a second entry", e.Name)
		}
		delete(declared, e.Name)
		if e.When == "" || len(e.MessageID) != 32 || ids[e.MessageID] {
			t.Errorf("%s: not complete, or its MESSAGE_ID is another's: %+v", e.Name, e)
		}
		ids[e.MessageID] = true
		if (e.own != nil) != (e.Object != "") {
			t.Errorf("%s: an own object that is not described, or the other way round", e.Name)
		}
	}
	for name := range declared {
		t.Errorf("%q has no entry", name)
	}
	var own []string
	for f := range reflect.TypeFor[Event]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() == reflect.Pointer && name != "process" && name != TypeSample {
			own = append(own, name)
		}
	}
	var want []string
	for i := range EventTypes {
		if EventTypes[i].own != nil {
			want = append(want, EventTypes[i].Name)
		}
	}
	if !reflect.DeepEqual(own, want) {
		t.Errorf("own objects of an Event are %v, of EventTypes %v", own, want)
	}
}

// TestEventTypesInDocs wants docs/events.md to tell what the entries say. With -update it is
// made to.
func TestEventTypesInDocs(t *testing.T) {
	const path = "../../docs/events.md"
	var names, objects, about, table []string
	for i := range EventTypes {
		e := &EventTypes[i]
		names = append(names, "`"+e.Name+"`")
		if e.own != nil {
			objects = append(objects, "`"+e.Name+"`")
		}
		if e.Host {
			about = append(about, "`"+e.Name+"`")
		}
		row := fmt.Sprintf("| `%s` | %s | %s", e.Name, e.When, e.Object)
		table = append(table, strings.TrimRight(row, " ")+" |")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, part := range []struct{ begin, end, want string }{
		{"| `type` | | ", " |\n", strings.Join(names, " ")},
		{"| `process` | | the process that it is about: below. Absent in ", " |\n", strings.Join(about, ", ")},
		{"| type | when | own object |\n|---|---|---|\n", "\n\n", strings.Join(table, "\n")},
		{strings.Join(about, ", ") + " |\n| ", " | | the event's own object", strings.Join(objects, " ")},
	} {
		before, rest, ok := strings.Cut(text, part.begin)
		got, after, ok2 := strings.Cut(rest, part.end)
		if !ok || !ok2 {
			t.Fatalf("%s: no %q", path, part.begin)
		}
		if got != part.want && !*update {
			t.Errorf("%s tells\n%s\nwant\n%s\nrun the test with -update", path, got, part.want)
		}
		text = before + part.begin + part.want + part.end + after
	}
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

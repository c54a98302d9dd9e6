// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestWhenRefuses: what could make an expression cost more than its text, and what
// does not fit the types.
func TestWhenRefuses(t *testing.T) {
	tests := []struct{ name, source, want string }{
		{"range", "process.pid in 1..1000000000", "ranges are not allowed in a rule"},
		{"predicate", "all([1, 2], # > 1)", "the function all is not allowed"},
		{"nested predicates", "all([1], all([2], # > 1))", "the function all is not allowed"},
		{"variable", "let x = process.cmdline + process.cmdline; x == ''", "this construct is not allowed in a rule"},
		{"sequence", "true; true", "this construct is not allowed in a rule"},
		{"map", "{'a': 1} == {'a': 1}", "this construct is not allowed in a rule"},
		{"slice", "process.comm[0:1] == 'a'", "this construct is not allowed in a rule"},
		{"optional chain", "process?.comm == 'a'", "this construct is not allowed in a rule"},
		{"repeat", "repeat(process.comm, 1000000) == ''", "the function repeat is not allowed"},
		{"clock", "now() == now()", "the function now is not allowed"},
		{"unknown function", "system('rm')", "no such function"},
		{"method", "process.comm.x() == 1", "no such function"},
		{"field of a field", "process.comm.x == 1", "fields can be taken of process and host only"},
		{"environment", "$env['host'].load1 > 1", `unknown name "$env"`},
		{"computed field", "process[process.comm] == 1", "a field must be named, as in process.name"},
		{"detour to an unknown figure", "[host][0].load1 < 5", "fields can be taken of process and host only"},
		{"pattern of a process", "process.cmdline matches process.comm", "the pattern after matches must be a literal string"},
		{"bad pattern", "process.cmdline matches 'a('", "missing closing )"},
		{"unknown record", "hst.load1 > 1", `unknown name "hst": there are process and host`},
		{"unknown field", "host.load_1 > 1", `host has no "load_1", did you mean "load1"?`},
		{"unknown bare name", "load1 > 1", `unknown name "load1": there are process and host`},
		{"not a condition", "host.load1", "expected bool, but got float64"},
		{"number with text", "host.load1 > '3'", "mismatched types float64 and string"},
		{"syntax", "host.load1 >", "unexpected token EOF"},
		{"percent sign", "host.memory_percent > 85% and true", "percentages are plain numbers here: 85, not 85%"},
		{"too complex", strings.Repeat("1 + ", 200) + "1 > 0", "the expression is too complex: more than 200 parts"},
		{"too deep", strings.Repeat("(", 4000) + "true", "the expression"},
		{"too long", strings.Repeat(" ", maxPattern) + "true", "the expression has 4100 bytes, more than 4096"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := compileWhen(tt.source)
			if err == nil {
				t.Fatalf("accepted, want %q", tt.want)
			}
			if tt.name != "too deep" && !strings.Contains(Message(err), tt.want) {
				t.Errorf("got %q, want %q", Message(err), tt.want)
			}
		})
	}
}

func TestWhenAccepts(t *testing.T) {
	for _, source := range []string{
		"true",
		"host.memory_percent > 85 and process.tree_bytes > 500 * 1000 * 1000",
		`process.user in ["app", "web"] or process.unit startsWith "web"`,
		`lower(process.comm) contains "python" && len(process.cmdline) > 10`,
		`process.cmdline matches "multiprocessing\\.(spawn|forkserver)"`,
		"(host.cpus > 4 ? host.load1 : host.load5) / host.cpus > 1.5",
		`process.exe endsWith "python3" and not (process.threads > 1)`,
		`max(process.rss_bytes, process.swap_bytes) >= 1e9 or abs(process.cpu_percent) < 1`,
	} {
		if _, err := compileWhen(source); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestWhenPosition(t *testing.T) {
	_, err := compileWhen("process.uid == 5 and\n  host.load_1 > 1")
	if line, column := whenPosition(err); line != 2 || column == 0 {
		t.Errorf("got line %d, column %d of %v, want line 2", line, column, err)
	}
	if line, column := whenPosition(errors.New("elsewhere")); line != 0 || column != 0 {
		t.Errorf("got %d:%d for a foreign error, want 0:0", line, column)
	}
}

// FuzzWhen: whatever compiles can be evaluated and explained, at once.
func FuzzWhen(f *testing.F) {
	for _, seed := range []string{"host.load1 > 1", "process.uid in [1, 2]", "1 % 0 == 1", "all([1], # > 0)",
		"process.cmdline matches '(a+)+$'", "len(process.comm + process.exe) ** 2 > 3", "-9223372036854775808 / -1 == 1"} {
		f.Add(seed)
	}
	engine := mustEngine(f)
	view, host := leakedTree(), idleHost()
	f.Fuzz(func(t *testing.T, source string) {
		when, err := compileWhen(source)
		if err != nil {
			return
		}
		c := engine.candidate(view, host, at(200*time.Second))
		if !c.reset(id(20)) {
			t.Fatal("no candidate")
		}
		held, _ := when.holds(c)
		again, _ := when.holds(c)
		if held != again || when.describe(c) == "" {
			t.Errorf("%s: got %v, then %v", source, held, again)
		}
	})
}

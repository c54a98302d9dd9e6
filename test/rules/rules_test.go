// SPDX-License-Identifier: Apache-2.0

// Package rules holds the rules of the architecture that the compiler does not know.
package rules

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/abot-trace/abot-trace/"

// imports lists each package of the module with what it imports, tests left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		all[strings.TrimPrefix(f[0], module)] = f[1:]
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// TestImports checks who may import what.
func TestImports(t *testing.T) {
	all := imports(t)
	for _, rule := range []struct {
		name    string
		imports func(path string) bool
		may     []string // folders
		why     string
	}{
		{"the BPF programs", is("bpf"), []string{"internal/probe"},
			"the kernel's records have one reader"},
		{"gopsutil", hasPrefix("github.com/shirou/gopsutil"), []string{"internal/sample", "test/bench"},
			"it is far too slow for a loop, and its creation time is no identity; the benchmark measures that"},
		{"the network", is("net/http"), []string{"internal/api", "internal/notify", "internal/metrics", "internal/daemon", "internal/supervise", "cmd", "test"},
			"the rest has no business with it, not even with unix sockets"},
		{"the daemon", is("internal/daemon"), []string{"cmd/abot-trace"},
			"it knows all parts; no part knows it"},
		{"enforcement", is("internal/enforce"), []string{"internal/control", "internal/daemon", "internal/supervise", "cmd/abot-trace"},
			"whoever signals is few and known"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			used := false
			for pkg, paths := range all {
				if !slices.ContainsFunc(paths, rule.imports) {
					continue
				}
				used = true
				if !slices.ContainsFunc(rule.may, func(dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }) {
					t.Errorf("%s imports %s, which only %v may: %s", pkg, rule.name, rule.may, rule.why)
				}
			}
			if !used {
				t.Errorf("nobody imports %s: the rule protects nothing", rule.name)
			}
		})
	}
}

// TestPurePolicy keeps judgement and rules free of looking at the machine: what they
// decide must be the same in a replay.
func TestPurePolicy(t *testing.T) {
	all := imports(t)
	for _, pkg := range []string{"internal/policy", "internal/verdict", "internal/event", "internal/wire", "internal/tracker"} {
		paths, ok := all[pkg]
		if !ok {
			t.Errorf("there is no %s", pkg)
		}
		for _, path := range paths {
			if slices.Contains([]string{"os", "os/exec", "net", "syscall"}, path) {
				t.Errorf("%s imports %s: it takes values and gives values", pkg, path)
			}
		}
	}
}

func is(path string) func(string) bool {
	return func(p string) bool { return p == path || p == module+path }
}

func hasPrefix(prefix string) func(string) bool {
	return func(p string) bool { return strings.HasPrefix(p, prefix) }
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernels.md")
	if err := os.WriteFile(path, []byte("# Kernels\n\nbefore\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	results := []result{
		{machine: "6.18, container", names: []string{"a", "b", "c"}, outcomes: map[string]string{"a": "ok", "b": "ok", "c": "FAIL"}},
		{machine: "6.1, virtual machine", names: []string{"a", "c"}, outcomes: map[string]string{"a": "ok", "c": "ok"}},
	}
	var first string
	// The second time it replaces what the first one wrote.
	for range 2 {
		if err := writeTable(path, results); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const want = "| step | 6.18, container | 6.1, virtual machine |\n|---|---|---|\n| a | ok | ok |\n| b | ok | - |\n| c | FAIL | ok |\n"
		got := string(text)
		if !strings.HasPrefix(got, "# Kernels\n\nbefore\n\n## ") || !strings.HasSuffix(got, want) {
			t.Errorf("got\n%s", got)
		}
		if first != "" && got != first {
			t.Errorf("the second time:\n%s\nthe first:\n%s", got, first)
		}
		first = got
	}
}

// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	handled    = regexp.MustCompile(`Handle(?:Any)?\("([A-Z]+ /[^"]*)"`)
	documented = regexp.MustCompile("`((?:GET|POST|DELETE) /[a-z0-9/]+)[^`]*`")
)

// TestEndpoints holds the table of api.md against the endpoints that the daemon serves.
func TestEndpoints(t *testing.T) {
	var served, told []string
	err := filepath.WalkDir("../internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range handled.FindAllSubmatch(text, -1) {
			served = append(served, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("api.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `") {
			for _, m := range documented.FindAllStringSubmatch(line, -1) {
				told = append(told, m[1])
			}
		}
	}
	slices.Sort(served)
	slices.Sort(told)
	served = slices.Compact(served) // the helper serves metrics, too
	if !slices.Equal(served, told) {
		t.Errorf("served:\n%s\ntold:\n%s", strings.Join(served, "\n"), strings.Join(told, "\n"))
	}
}

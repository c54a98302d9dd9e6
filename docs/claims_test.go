// SPDX-License-Identifier: Apache-2.0

// Package docs holds the documents to the tests that they name.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	named    = regexp.MustCompile("`(Test[A-Z][A-Za-z]*)`")
	declared = regexp.MustCompile(`(?m)^func (Test[A-Za-z]+)\(`)
)

// TestClaims: every test that the threat model rests a claim on is there.
func TestClaims(t *testing.T) {
	tests := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	claims := named.FindAllSubmatch(text, -1)
	if len(claims) < 20 {
		t.Fatalf("%d claims", len(claims))
	}
	for _, m := range claims {
		if !tests[string(m[1])] {
			t.Errorf("there is no %s", m[1])
		}
	}
}

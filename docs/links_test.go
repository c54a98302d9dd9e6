// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinks wants what the texts for contributors link to to exist, and a name in a link to
// a Go file to be declared there.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile("\\[(`?)([^]`]+)`?\\]\\(([^)#:]+)\\)")
	for _, page := range []string{"../CONTRIBUTING.md", "architecture.md", "words.md", "prevention.md", "recipes.md", "../README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target := filepath.Join(filepath.Dir(page), m[3])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if m[1] == "" || !strings.HasSuffix(target, ".go") {
				continue
			}
			source, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			name := regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type )` + regexp.QuoteMeta(m[2]) + `\b`)
			if !name.Match(source) {
				t.Errorf("%s: %s does not declare %s", page, m[3], m[2])
			}
		}
	}
}

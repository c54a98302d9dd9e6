// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const documented = "../../docs/performance.md"

func documentedFigures(t *testing.T) figures {
	t.Helper()
	text, err := os.ReadFile(figuresPath(documented))
	if err != nil {
		t.Fatal(err)
	}
	var f figures
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDocumentedFigures holds the tables and README's paragraph against the figures that
// the benchmark has written.
func TestDocumentedFigures(t *testing.T) {
	want := documentedFigures(t)
	report, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, figuresOf(report)); diff != "" {
		t.Errorf("%s differs from its figures (-want +got):\n%s", documented, diff)
	}
	paragraph, err := want.readme()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), readmeBegin+paragraph+readmeEnd) {
		t.Errorf("README says something else than its figures:\n%s", paragraph)
	}
}

// TestWriteFigures writes a report's figures, and the paragraph in the place of an old one.
func TestWriteFigures(t *testing.T) {
	dir := t.TempDir()
	report, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	path, readme := filepath.Join(dir, "report.md"), filepath.Join(dir, "README.md")
	if err := os.WriteFile(readme, []byte("before\n"+readmeBegin+"old\n"+readmeEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeFigures(report, path, readme); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "before\n"+readmeBegin+"There, ") || !strings.HasSuffix(string(text), readmeEnd+"after\n") {
		t.Errorf("got\n%s", text)
	}
	if _, err := os.Stat(figuresPath(path)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(readme, []byte("nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeFigures(report, path, readme); err == nil {
		t.Error("written where there is no place")
	}
}

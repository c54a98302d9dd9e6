// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedFile = regexp.MustCompile(`(?:kernel/)?\b[a-z_]+(?:\.[a-z]+)*\.(?:go|c|h)\b`)
	cComment  = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)
)

// TestNamedFiles wants the files that comments of bpf/ name to exist, but for the kernel's.
func TestNamedFiles(t *testing.T) {
	list, err := exec.Command("git", "-C", source, "ls-files").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"vmlinux.h": true}
	for path := range bytes.Lines(list) {
		known[filepath.Base(strings.TrimSpace(string(path)))] = true
	}
	files, err := filepath.Glob(filepath.Join(source, "bpf/*.[ch]"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, comment := range cComment.FindAllString(string(text), -1) {
			for _, name := range namedFile.FindAllString(comment, -1) {
				if !known[name] && !strings.HasPrefix(name, "kernel/") {
					t.Errorf("%s names %s, which does not exist:\n%s", filepath.Base(file), name, comment)
				}
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/abot-trace/abot-trace/"

// A listedPackage is what the go command says of one.
type listedPackage struct {
	ImportPath string
	GoFiles    []string
	Imports    []string
}

// listPackages lists the packages of the module but for the tools of its tests, by their
// paths within it.
func listPackages(t *testing.T) map[string]*listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,GoFiles,Imports", "./...")
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*listedPackage)
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		p := new(listedPackage)
		if err := dec.Decode(p); err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(path, "test/") || strings.HasPrefix(path, "tools") || strings.HasPrefix(path, "examples") ||
			strings.HasPrefix(path, "clients") || path == "docs" {
			continue
		}
		for i := range p.Imports {
			p.Imports[i] = strings.TrimPrefix(p.Imports[i], module)
		}
		all[path] = p
	}
	return all
}

// A mapRow is a row of the table in architecture.md.
type mapRow struct {
	path, sentence string
	never          []string
}

func readMap(t *testing.T) (rows []mapRow) {
	t.Helper()
	text, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9/-]+)` \\| (.*?) \\| (.*?) ?\\|$")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, mapRow{m[1], m[2], strings.Fields(strings.ReplaceAll(m[3], "`", " "))})
	}
	return rows
}

// onlyBy says who alone may import what.
var onlyBy = map[string]string{
	"bpf":                        "internal/probe",
	"internal/daemon":            "cmd/abot-trace",
	"github.com/shirou/gopsutil": "internal/sample",
}

// TestMap holds the packages and their imports against the table in architecture.md: each
// stands there once, below all that it imports, and imports nothing that its row forbids.
func TestMap(t *testing.T) {
	packages, rows := listPackages(t), readMap(t)
	at := make(map[string]int)
	for i, row := range rows {
		if _, twice := at[row.path]; twice {
			t.Errorf("%s stands in the map twice", row.path)
		}
		at[row.path] = i
		p := packages[row.path]
		switch {
		case p == nil:
			t.Errorf("%s stands in the map and is no package", row.path)
			continue
		case row.sentence == "":
			t.Errorf("%s: the map does not say what it is", row.path)
		}
		for _, imported := range p.Imports {
			if slices.Contains(row.never, imported) {
				t.Errorf("%s imports %s, which its row forbids", row.path, imported)
			}
			for what, alone := range onlyBy {
				if (imported == what || strings.HasPrefix(imported, what+"/")) && row.path != alone {
					t.Errorf("%s imports %s, which is %s's alone", row.path, imported, alone)
				}
			}
		}
	}
	for path, p := range packages {
		i, ok := at[path]
		if !ok {
			t.Errorf("%s does not stand in the map", path)
			continue
		}
		for _, imported := range p.Imports {
			if j, ours := at[imported]; ours && j > i {
				t.Errorf("%s imports %s, which stands below it: data flows down, imports point up", path, imported)
			}
		}
	}
}

// TestSources holds sources against rules that imports do not show.
func TestSources(t *testing.T) {
	for path, p := range listPackages(t) {
		for _, name := range p.GoFiles {
			b, err := os.ReadFile("../" + path + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			if strings.Contains(text, "RawSyscall") && path != "internal/rawsys" {
				t.Errorf("%s/%s makes raw system calls: they are internal/rawsys's", path, name)
			}
			if (strings.Contains(text, "os.Exit(") || strings.Contains(text, "log.Fatal")) && name != "main.go" && path != "shutdown" {
				t.Errorf("%s/%s ends the program: only main does", path, name)
			}
			if lines := strings.Count(text, "\n"); lines > 400 && !strings.HasSuffix(name, "_bpfel.go") {
				t.Errorf("%s/%s has %d lines: a file is one idea, of 400 lines at most", path, name, lines)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
)

// figures are what a run has measured, as its tables have it: by heading, row and column.
// They are written beside the tables, and what README says of cost is made of them, so
// that it cannot say anything else.
type figures map[string]map[string]map[string]string

// figuresOf reads the tables of a report.
func figuresOf(report []byte) figures {
	all := make(figures)
	heading := ""
	var columns []string
	for line := range strings.Lines(string(report)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "## "):
			heading, columns = strings.TrimPrefix(line, "## "), nil
		case !strings.HasPrefix(line, "|"), strings.HasPrefix(line, "|---"):
		case columns == nil:
			columns = cells(line)
		default:
			row := cells(line)
			if all[heading] == nil {
				all[heading] = make(map[string]map[string]string)
			}
			values := make(map[string]string)
			for i := 1; i < min(len(row), len(columns)); i++ {
				values[columns[i]] = row[i]
			}
			all[heading][row[0]] = values
		}
	}
	return all
}

func cells(line string) []string {
	parts := strings.Split(strings.Trim(line, "|"), "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

var firstNumber = regexp.MustCompile(`[0-9][0-9.]*`)

// number returns the first number of a cell.
func (f figures) number(heading, row, column string) (float64, error) {
	cell, ok := f[heading][row][column]
	if !ok {
		return 0, fmt.Errorf("no figure %q, %q, %q", heading, row, column)
	}
	return strconv.ParseFloat(firstNumber.FindString(cell), 64)
}

//go:embed testdata/readme.tmpl
var readmeText string

// readme is what README says of cost.
func (f figures) readme() (string, error) {
	t, err := template.New("readme").Funcs(template.FuncMap{
		"n": f.number,
		// as is the number with so many digits behind the point.
		"as":   func(digits int, v float64) string { return strconv.FormatFloat(v, 'f', digits, 64) },
		"div":  func(by, v float64) float64 { return v / by },
		"cell": func(heading, row, column string) string { return f[heading][row][column] },
	}).Parse(readmeText)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, nil); err != nil {
		return "", err
	}
	return b.String(), nil
}

// What stands before and after the paragraph in README.
const (
	readmeBegin = "<!-- Written by make bench, from docs/performance.json. -->\n"
	readmeEnd   = "<!-- To here. -->\n"
)

// writeFigures writes the figures of a report beside it, and the paragraph into README.
func writeFigures(report []byte, path, readmePath string) error {
	f := figuresOf(report)
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(figuresPath(path), append(text, '\n'), 0o644); err != nil {
		return err
	}
	paragraph, err := f.readme()
	if err != nil {
		return err
	}
	old, err := os.ReadFile(readmePath)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(old, []byte(readmeBegin))
	_, after, ends := bytes.Cut(rest, []byte(readmeEnd))
	if !begins || !ends {
		return fmt.Errorf("%s: no place for the figures", readmePath)
	}
	return os.WriteFile(readmePath, fmt.Appendf(nil, "%s%s%s%s%s", before, readmeBegin, paragraph, readmeEnd, after), 0o644)
}

// figuresPath is where the figures of a report are kept.
func figuresPath(report string) string {
	return strings.TrimSuffix(report, filepath.Ext(report)) + ".json"
}

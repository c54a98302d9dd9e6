// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// FuzzParse: whatever the text, there is either a configuration whose rules compile
// or a list of faults that lie within the text and print on a terminal.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	seeds, err := filepath.Glob("testdata/invalid/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(seeds, "../../deploy/config.yaml") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.yaml", data)
		if err == nil {
			if _, err := c.Engine(false); err != nil {
				t.Fatalf("accepted, but does not compile: %v", err)
			}
			return
		}
		var faults Errors
		if c != nil || !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("got %v and %#v", c, err)
		}
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + 1
		for _, fault := range faults {
			if fault.Line > lines || fault.Line > 0 && fault.Column < 1 {
				t.Errorf("%d:%d is not in a text of %d lines", fault.Line, fault.Column, lines)
			}
			if i := strings.IndexFunc(fault.excerpt(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); fault.src != nil && i >= 0 {
				t.Errorf("the excerpt does not print: %q", fault.excerpt())
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package nearest

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWord(t *testing.T) {
	words := []string{"orphaned_for", "older_than", "memory_above", "for", "leaked", "unknown"}
	tests := []struct{ name, give, want string }{
		{"swap", "orphaned_fro", "orphaned_for"},
		{"missing letter", "laked", "leaked"},
		{"extra letter", "leakedd", "leaked"},
		{"other letter", "memory_abode", "memory_above"},
		{"case", "Leaked", "leaked"},
		{"short word, one slip", "fro", "for"},
		{"two letters say nothing", "fr", ""},
		{"far", "elephant", ""},
		{"empty", "", ""},
		{"long", strings.Repeat("x", 1<<20), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Word(tt.give, words); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHint(t *testing.T) {
	if got, want := Hint("enfroce", "observe", "enforce"), `, did you mean "enforce"?`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Hint("purple", "observe", "enforce"); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestList(t *testing.T) {
	if got, want := List([]string{"tree", "process"}), "process, tree"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestEditsIsSymmetric: the way back costs what the way there does, and nothing else
// is free.
func TestEditsIsSymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.StringMatching(`[abc]{0,8}`).Draw(t, "a")
		b := rapid.StringMatching(`[abc]{0,8}`).Draw(t, "b")
		d := edits(a, b)
		if back := edits(b, a); back != d {
			t.Fatalf("%q to %q is %d, back %d", a, b, d, back)
		}
		if (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Fatalf("%q to %q is %d", a, b, d)
		}
	})
}

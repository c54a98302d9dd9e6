// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTerminal(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", ""},
		{"ascii", "tmux: server", "tmux: server"},
		{"unicode letters", "Überprüfung 日本", "Überprüfung 日本"},
		{"newline", "x\nPRIORITY=0", `x\nPRIORITY=0`},
		{"carriage return", "ok\rroot", `ok\rroot`},
		{"colour", "\x1b[31mred", `\x1b[31mred`},
		{"title", "\x1b]0;pwned\a", `\x1b]0;pwned\x07`},
		{"delete", "a\x7fb", `a\x7fb`},
		{"nul", "a\x00b", `a\x00b`},
		{"c1 csi as a rune", "\u009b31m", `\u009b31m`},
		{"c1 csi as a byte", "\x9b31m", `\x9b31m`},
		{"invalid utf-8", "a\xff\xc3b", `a\xff\xc3b`},
		{"overlong", "\xc0\xaf", `\xc0\xaf`},
		{"surrogate", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"replacement character", "\ufffd", "\ufffd"},
		{"right to left override", "gpj\u202eexe", `gpj\u202eexe`},
		{"isolate", "\u2066x\u2069", `\u2066x\u2069`},
		{"zero width space", "a\u200bb", `a\u200bb`},
		{"byte order mark", "\ufeffa", `\ufeffa`},
		{"soft hyphen", "a\u00adb", `a\u00adb`},
		{"line separator", "a\u2028b", `a\u2028b`},
		{"no-break space", "a\u00a0b", `a\u00a0b`},
		{"hangul filler", "a\u3164b", `a\u3164b`},
		{"braille blank", "a\u2800b", `a\u2800b`},
		{"variation selector", "a\ufe0fb", `a\ufe0fb`},
		{"tag character", "a\U000e0041b", `a\U000e0041b`},
		{"private use", "\ue000", `\ue000`},
		{"accent", "e\u0301", "e\u0301"},
		{"leading mark", "\u0301e", `\u0301e`},
		{"pile of marks", "e\u0301\u0301\u0301\u0301\u0301", "e\u0301\u0301\u0301\u0301" + `\u0301`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Terminal(tt.in); got != tt.want {
				t.Errorf("Terminal(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestField(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", "-"},
		{"word", "python3", "python3"},
		{"space", "a b", `a\x20b`},
		{"forged pair", "x verdict=deliberate", `x\x20verdict=deliberate`},
		{"tab", "a\tb", `a\tb`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Field(tt.in); got != tt.want {
				t.Errorf("Field(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"":              "-",
		"python3":       "python3",
		"tmux: client":  "tmux: client",
		" a":            `\x20a`,
		"a ":            `a\x20`,
		"a  b":          `a\x20\x20b`,
		" ":             `\x20`,
		"kworker/0:1\n": `kworker/0:1\n`,
	} {
		if got := Name(in); got != want {
			t.Errorf("Name(%q) = %q, want %q", in, got, want)
		}
		if got := Name(want); got != want {
			t.Errorf("Name(%q) = %q, want it unchanged", want, got)
		}
	}
}

func TestArgs(t *testing.T) {
	tests := []struct {
		name string
		in   []string
		want string
	}{
		{"none", nil, ""},
		{"plain", []string{"python3", "-m", "http.server"}, "python3 -m http.server"},
		{"empty argument", []string{"a", ""}, "a ''"},
		{"space", []string{"sh", "-c", "sleep 5"}, "sh -c 'sleep 5'"},
		{"quote", []string{"echo", "it's"}, `echo 'it'\''s'`},
		{"newline", []string{"echo", "a\nb"}, `echo $'a\nb'`},
		{"newline beside its look-alike", []string{"a\nb", `a\nb`}, `$'a\nb' 'a\nb'`},
		{"backslash beside newline", []string{"a\\\n'"}, `$'a\\\n\''`},
		{"glob", []string{"*"}, `'*'`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Args(tt.in); got != tt.want {
				t.Errorf("Args(%q) = %s, want %s", tt.in, got, tt.want)
			}
		})
	}
}

// harmless reports whether s is one line of valid text that shows as itself.
func harmless(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || unicode.In(r, unicode.Cf, unicode.Cc, unicode.Zl, unicode.Zp)
	}) < 0
}

func FuzzTerminal(f *testing.F) {
	for _, seed := range []string{"", "a b", "\x1b[31m", "x\nPRIORITY=0", "\u202e", "\xff", "e\u0301\u0301\u0301\u0301\u0301\u0301", "\U000e0041"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := Terminal(s)
		if !harmless(line) {
			t.Errorf("Terminal(%q) = %q: not harmless", s, line)
		}
		if again := Terminal(line); again != line {
			t.Errorf("Terminal is not idempotent: %q, then %q", line, again)
		}
		word := Field(s)
		if !harmless(word) || word == "" || strings.Contains(word, " ") {
			t.Errorf("Field(%q) = %q: not one harmless word", s, word)
		}
		if again := Field(word); again != word {
			t.Errorf("Field is not idempotent: %q, then %q", word, again)
		}
		if args := Args([]string{s, "x", s}); !harmless(args) {
			t.Errorf("Args(%q) = %q: not harmless", s, args)
		}
	})
}

func TestCleanTextAllocatesNothing(t *testing.T) {
	args := []string{"/usr/bin/python3", "-m", "gunicorn", "--workers", "4", "app:main"}
	checks := map[string]func(){
		"Terminal": func() { Terminal("tmux: server") },
		"Field":    func() { Field("python3") },
		"Redact":   func() { Redact(args) },
	}
	for name, f := range checks {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations for clean text, want 0", name, n)
		}
	}
}

func BenchmarkTerminal(b *testing.B) {
	for _, s := range []string{"tmux: server", "\x1b[31mred", "Überprüfung"} {
		b.Run(Field(s), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Terminal(s)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package fingerprint

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// splitWords splits a line of the table: a word with blanks stands in double quotes,
// which end at a quote before a blank or the end.
func splitWords(line string) (words []string) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " ") {
		end := " "
		if strings.HasPrefix(line, `"`) {
			line, end = line[1:], `" `
		}
		word, rest, _ := strings.Cut(line+end, end)
		if end == `" ` && strings.HasSuffix(line, `"`) && !strings.Contains(line, end) {
			word, rest = line[:len(line)-1], ""
		}
		words, line = append(words, word), strings.TrimSuffix(rest, end)
	}
	return words
}

type group struct {
	name  string
	lines []string
}

func table(t *testing.T) (groups []group) {
	t.Helper()
	b, err := os.ReadFile("testdata/cmdlines.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		switch {
		case strings.HasPrefix(line, "#"), line == "":
		case strings.HasPrefix(line, "= "):
			groups = append(groups, group{name: strings.Join(splitWords(line[2:]), " ")})
		default:
			g := &groups[len(groups)-1]
			g.lines = append(g.lines, line)
		}
	}
	return groups
}

func TestTable(t *testing.T) {
	seen := make(map[string]string)
	lines := 0
	for _, g := range table(t) {
		first := ""
		for _, line := range g.lines {
			lines++
			f := Of(Case{Cmdline: splitWords(line)})
			if f.Name != g.name {
				t.Errorf("name of %s:\n got %s\nwant %s", line, f.Name, g.name)
			}
			if first == "" {
				first = f.ID
				if other, ok := seen[f.ID]; ok {
					t.Errorf("%s has the fingerprint of %s", line, other)
				}
			}
			if f.ID != first {
				t.Errorf("%s is another case than the first of its group", line)
			}
			seen[f.ID] = line
		}
	}
	if lines < 80 {
		t.Errorf("only %d command lines", lines)
	}
}

func TestPlace(t *testing.T) {
	cmdline := []string{"python3", "app.py"}
	of := func(unit, image, workload string) string {
		return Of(Case{Cmdline: cmdline, Unit: unit, Image: image, Workload: workload}).ID
	}
	for _, tt := range []struct {
		name string
		a, b [3]string
		same bool
	}{
		{"instances", [3]string{"worker@1.service"}, [3]string{"worker@2.service"}, true},
		{"transient", [3]string{"run-u17.service"}, [3]string{"run-u4.service"}, true},
		{"transient, of a pid", [3]string{"run-p12-i34.scope"}, [3]string{"run-p5-i6.scope"}, true},
		{"sessions", [3]string{"session-12.scope"}, [3]string{"session-c2.scope"}, true},
		{"scope and service", [3]string{"run-u17.service"}, [3]string{"run-u17.scope"}, false},
		{"units", [3]string{"a.service"}, [3]string{"b.service"}, false},
		{"applications of a desktop", [3]string{"app-gnome-firefox-1234.scope"}, [3]string{"app-gnome-firefox-99.scope"}, true},
		{"tags", [3]string{"", "r.example.org:5000/shop/cart:1"}, [3]string{"", "r.example.org:5000/shop/cart:2"}, true},
		{"digests", [3]string{"", "shop/cart@sha256:aa"}, [3]string{"", "shop/cart"}, true},
		{"images", [3]string{"", "shop/cart"}, [3]string{"", "shop/till"}, false},
		{"image over unit", [3]string{"docker-aa.scope", "shop/cart"}, [3]string{"x.scope", "shop/cart"}, true},
		{"replicas", [3]string{"", "x", "shop/cart-7d9f8b6c5d-x2x9k"}, [3]string{"", "y", "shop/cart-66c4d8b9f7-bbbbb"}, true},
		{"ordinals", [3]string{"", "", "shop/db-0"}, [3]string{"", "", "shop/db-11"}, true},
		{"namespaces", [3]string{"", "", "shop/db-0"}, [3]string{"", "", "test/db-0"}, false},
		{"a unit named as an image", [3]string{"cart"}, [3]string{"", "cart"}, false},
	} {
		if got := of(tt.a[0], tt.a[1], tt.a[2]) == of(tt.b[0], tt.b[1], tt.b[2]); got != tt.same {
			t.Errorf("%s: %v and %v are the same: %v, want %v", tt.name, tt.a, tt.b, got, tt.same)
		}
	}
}

// A fingerprint that changes is lost work of operators: acks and ignores name it.
func TestStable(t *testing.T) {
	f := Of(Case{Cmdline: []string{"/usr/bin/python3", "/srv/app/worker.py", "--id", "3"}, Unit: "app@1.service"})
	want := Fingerprint{ID: "F63c38b879213", Name: "python3 /srv/app/worker.py --id {n}", Program: "worker.py"}
	if f != want {
		t.Errorf("got %+v, want %+v; a change of the rules needs another version", f, want)
	}
}

// Whoever chooses the arguments cannot write a placeholder, a second word or a control
// character into the name.
func TestHostile(t *testing.T) {
	of := func(words ...string) Fingerprint { return Of(Case{Cmdline: words}) }
	if of("app", number).ID == of("app", "3").ID {
		t.Error("an argument forged a placeholder")
	}
	if of("app", "{n}").ID == of("app", "3").ID {
		t.Error("an argument in braces is taken for a placeholder")
	}
	if of("app", "a b").ID == of("app", "a", "b").ID {
		t.Error("a blank in an argument is taken for the end of a word")
	}
	if name := of("app\x1b[31m", "a\nb", "\u202e").Name; strings.ContainsAny(name, "\x1b\n\u202e") {
		t.Errorf("not escaped: %q", name)
	}
	if name := of("app", "--password", "hunter2").Name; strings.Contains(name, "hunter2") {
		t.Errorf("a secret in the name: %q", name)
	}
	if name := of("app", strings.Repeat("wide Ω ", 4000)).Name; len(name) > MaxName || !utf8.ValidString(name) {
		t.Errorf("%d bytes", len(name))
	}
}

// A number in the arguments never makes another case.
func TestNumbersDoNotCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,8}([-_.=/][a-z]{1,8}){0,2}`), 1, 6).Draw(t, "words")
		n := rapid.IntRange(0, 1<<30).Draw(t, "n")
		m := rapid.IntRange(0, 1<<30).Draw(t, "m")
		format := rapid.SampledFrom([]string{"%", "--id=%", "worker-%", "x:%", "/var/lib/x/%"}).Draw(t, "format")
		with := func(n int) string {
			return Of(Case{Cmdline: append(words[:len(words):len(words)], strings.ReplaceAll(format, "%", itoa(n)))}).ID
		}
		if date := strings.Contains(Of(Case{Cmdline: []string{"x", itoa(n), itoa(m)}}).Name, "{date}"); !date && with(n) != with(m) {
			t.Fatalf("%d and %d are two cases", n, m)
		}
	})
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func FuzzOf(f *testing.F) {
	for _, g := range []string{"python3\x00app.py\x00--id=3", "a\x00\x01n\x01", "/tmp/x\x00/tmp", "\x00", "x\x00[::1]:3"} {
		f.Add(g, "run-u1.scope")
	}
	f.Fuzz(func(t *testing.T, cmdline, unit string) {
		fp := Of(Case{Cmdline: strings.Split(cmdline, "\x00"), Comm: "c", Unit: unit})
		if len(fp.ID) != 13 || len(fp.Name) > MaxName || !utf8.ValidString(fp.Name) || strings.ContainsAny(fp.Name, "\x01\n\x1b") {
			t.Fatalf("%+v", fp)
		}
		if again := Of(Case{Cmdline: strings.Split(cmdline, "\x00"), Comm: "c", Unit: unit}); again != fp {
			t.Fatalf("not the same twice: %+v, %+v", fp, again)
		}
	})
}

func BenchmarkOf(b *testing.B) {
	c := Case{Cmdline: []string{"/usr/bin/python3.11", "/srv/app/worker.py", "--queue", "high", "--id", "4711"}, Unit: "app@1.service"}
	b.ReportAllocs()
	for b.Loop() {
		Of(c)
	}
}

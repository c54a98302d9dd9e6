// SPDX-License-Identifier: Apache-2.0

package fingerprint

import (
	"path"
	"regexp"
	"strings"

	"github.com/abot-trace/abot-trace/internal/program"
	"github.com/abot-trace/abot-trace/internal/safetext"
)

// Placeholders, as they stand in the hashed text: between two bytes that no input can
// contain, so that no argument can look like one. text shows them in braces.
const (
	fence   = "\x01"
	number  = fence + "n" + fence
	hexa    = fence + "hex" + fence
	token   = fence + "id" + fence
	uuid    = fence + "uuid" + fence
	date    = fence + "date" + fence
	address = fence + "addr" + fence
	temp    = fence + "tmp" + fence
	home    = "~"
)

// text is the form for people of words in the normal form.
func text(s string) string {
	var out strings.Builder
	for i, part := range strings.Split(s, fence) {
		if i%2 == 1 {
			part = "{" + part + "}"
		}
		out.WriteString(part)
	}
	return safetext.Terminal(out.String())
}

// normal returns the normal form of a command line: without secrets, and with what
// differs from one run to the next replaced by placeholders.
func normal(cmdline []string) []string {
	if len(cmdline) == 0 || cmdline[0] == "" {
		return nil
	}
	cmdline = safetext.Redact(cmdline[:min(len(cmdline), maxWords)])
	p := program.Of(cmdline, "", "")
	words := make([]string, 0, len(cmdline))
	words = append(words, normalBinary(cmdline[0], p.Name))
	script := strings.TrimPrefix(strings.TrimPrefix(p.Script, "-m "), "-jar ")
	if strings.HasPrefix(p.Script, "-c ") {
		script = ""
	}
	for _, word := range cmdline[1:] {
		own := script != "" && word == script
		if own {
			script = ""
		}
		words = append(words, normalWord(word, own))
	}
	return collapse(words)
}

// normalBinary is the first word: the base name where the binary lies in a directory for
// binaries (/usr/bin, a virtual environment's bin), else its path. A program that wrote a
// title over its arguments ("nginx: worker process 3") has it all in the first word.
func normalBinary(arg, name string) string {
	if strings.ContainsRune(arg, ' ') {
		return normalWord(arg, false)
	}
	dir := path.Dir(strings.TrimPrefix(arg, "-"))
	if base := path.Base(dir); dir == "." || base == "bin" || base == "sbin" || base == "/" {
		return normalWord(name, true)
	}
	return normalWord(dir+"/"+name, true)
}

// collapse makes one word of equal ones with a placeholder that follow each other, so
// that a list of files or numbers is the same whatever its length.
func collapse(words []string) []string {
	out := words[:1]
	for _, w := range words[1:] {
		if w != out[len(out)-1] || !strings.Contains(w, fence) {
			out = append(out, w)
		}
	}
	return out
}

// A replacement is made in the order of the list. Its pattern's first group, what stands
// before, is kept.
type replacement struct {
	find *regexp.Regexp
	with string
}

const (
	before = `(^|[^0-9A-Za-z])`
	octet  = `(?:25[0-5]|2[0-4]\d|1?\d?\d)`
)

var replacements = []replacement{
	{regexp.MustCompile(before + `[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b`), uuid},
	{regexp.MustCompile(before + `(?:19|20)\d\d-[01]\d-[0-3]\d(?:[T_ -][0-2]\d[:.-]?[0-5]\d(?:[:.-]?[0-6]\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b`), date},
	{regexp.MustCompile(before + `(?:19|20)\d\d[01]\d[0-3]\d(?:[T_-]?[0-2]\d[0-5]\d(?:[0-6]\d)?Z?)?\b`), date},
	{regexp.MustCompile(before + `[0-2]\d:[0-5]\d:[0-6]\d(?:\.\d+)?\b`), date},
	{regexp.MustCompile(before + octet + `\.` + octet + `\.` + octet + `\.` + octet + `(?::\d{1,5})?\b`), address},
	{regexp.MustCompile(`()\[[0-9a-fA-F:]*::?[0-9a-fA-F:.]*\](?::\d{1,5})?`), address},
	{regexp.MustCompile(`(^|[=:,'" ])(?:/home/[^/\s:,'"]+|/root|/Users/[^/\s:,'"]+)(?:\b|$)`), home},
}

var tempPath = regexp.MustCompile(`(^|[=:,'" ])(?:/tmp|/var/tmp|/dev/shm|/run/shm|/run/user/\d+)((?:/[^/\s:,'"=]*)*)`)

// normalWord is one word in the normal form. own is true for the name of the program
// itself, which keeps its short numbers: step1.py is not step2.py.
func normalWord(word string, own bool) string {
	word = clip(word, maxWord)
	word = strings.ToValidUTF8(strings.ReplaceAll(word, fence, "\uFFFD"), "\uFFFD")
	for _, r := range replacements {
		word = r.find.ReplaceAllString(word, "${1}"+r.with)
	}
	word = tempPath.ReplaceAllStringFunc(word, normalTemp)
	word = normalRuns(word, own)
	return numberList.ReplaceAllString(word, number)
}

// numberList is numbers that make one: a version, an address, a list of processors.
var numberList = regexp.MustCompile(number + `(?:[.,]` + number + `)+`)

// normalTemp replaces the directories of a temporary path, and its last part where that
// is made up.
func normalTemp(match string) string {
	m := tempPath.FindStringSubmatch(match)
	parts := strings.FieldsFunc(m[2], func(r rune) bool { return r == '/' })
	if len(parts) == 0 {
		return m[1] + temp
	}
	last := parts[len(parts)-1]
	if madeUp(last) {
		return m[1] + temp
	}
	return m[1] + temp + "/" + last
}

// mkdtemp matches what mktemp(1), tempfile of Python and the like append to a name.
var mkdtemp = regexp.MustCompile(`^(?:.*[._-])?(?:tmp)?([0-9A-Za-z_]{6,12})(?:\.[a-z]{1,4})?$`)

// madeUp reports whether a file's name looks like one that was drawn at random: letters
// in both cases, or with digits, in one run; or tmp with eight more.
func madeUp(name string) bool {
	m := mkdtemp.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	if rest, ok := strings.CutPrefix(strings.TrimSuffix(name, path.Ext(name)), "tmp"); ok && (len(rest) == 8 || strings.HasPrefix(rest, ".")) {
		return true
	}
	return changes(m[1]) >= 2
}

// changes is how often the class of bytes changes in s.
func changes(s string) (n int) {
	for i := 1; i < len(s); i++ {
		if class(s[i]) != class(s[i-1]) {
			n++
		}
	}
	return n
}

// The classes of bytes: lower case, upper case, digit, other.
func class(c byte) int {
	switch {
	case c >= 'a' && c <= 'z':
		return 0
	case c >= 'A' && c <= 'Z':
		return 1
	case c >= '0' && c <= '9':
		return 2
	}
	return 3
}

// normalRuns replaces runs of letters and digits that are numbers or made up. It leaves
// placeholders alone.
func normalRuns(word string, own bool) string {
	var out strings.Builder
	for i := 0; i < len(word); {
		if word[i] == fence[0] {
			end := i + 2 + strings.IndexByte(word[i+1:], fence[0])
			out.WriteString(word[i:end])
			i = end
			continue
		}
		j := i
		for j < len(word) && (class(word[j]) < 3 || word[j] >= 0x80) {
			j++
		}
		if j == i {
			out.WriteByte(word[i])
			i++
			continue
		}
		run := word[i:j]
		// A part of a version: python3.11, app-1.2.3.
		version := own && j < len(word) && word[j] == '.' && j+1 < len(word) && class(word[j+1]) == 2 ||
			own && i > 1 && word[i-1] == '.' && (class(word[i-2]) == 2 || word[i-2] == fence[0]) && class(word[i]) == 2
		out.WriteString(normalRun(run, own && !version))
		i = j
	}
	return out.String()
}

var (
	hexRun = regexp.MustCompile(`^(?:0x[0-9a-fA-F]+|[0-9a-f]{7,}|[0-9A-F]{7,})$`)
	amount = regexp.MustCompile(`^([A-Za-z]*?)\d+(?:[kKmMgGtT]i?[bB]?|[munµ]?s|[mhd])?$`)
)

// A run of at least longToken letters and digits whose class changes often was drawn at
// random; words in camel case have no digits.
const (
	longToken    = 20
	tokenChanges = 6
)

// normalRun is one run of letters and digits.
func normalRun(run string, own bool) string {
	var count [4]int
	for i := 0; i < len(run); i++ {
		count[class(run[i])]++
	}
	digits, letters := count[2], count[0]+count[1]
	switch {
	case digits == 0:
		return run
	case digits == len(run) && (!own || digits >= 4):
		return number
	case digits >= 2 && letters > 0 && hexRun.MatchString(run):
		return hexa
	case digits > 0 && len(run) >= longToken && changes(run) >= tokenChanges:
		return token
	case own:
		return run
	}
	if m := amount.FindStringSubmatch(run); m != nil {
		return m[1] + number
	}
	return run
}

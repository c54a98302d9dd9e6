// SPDX-License-Identifier: Apache-2.0

package safetext

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Hidden stands where a secret was.
const Hidden = "***"

// Redact returns a command line without its likely secrets: the values of options
// and variables whose name says so (--password=x, --token x, DB_PASSWORD=x), the
// short options of well-known programs (mysql -px, sshpass -p x), credentials in
// URLs, HTTP headers, and keys of a well-known form. args is never modified; it is
// returned itself where nothing was found. It is a net, not a proof: an argument
// that nothing marks as secret passes.
func Redact(args []string) []string {
	if !suspicious(args) {
		return args
	}
	out := slices.Clone(args)
	redactWords(out)
	for i, arg := range out {
		out[i] = redactText(arg)
	}
	return out
}

// redactText hides what can be told from the text alone, then takes its words as
// a command line of their own, as in sh -c 'mysql -psecret'.
func redactText(s string) string {
	if whole, ok := redactAssignment(s); ok {
		return whole
	}
	for _, p := range patterns() {
		s = p.find.ReplaceAllString(s, p.replace)
	}
	if !strings.ContainsAny(s, " \t\n") {
		return s
	}
	words := strings.FieldsFunc(s, isBlank)
	before := slices.Clone(words)
	redactWords(words)
	return rejoin(s, before, words)
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }

// rejoin replaces the words of s, in order, and keeps what stands between them.
func rejoin(s string, before, after []string) string {
	var out strings.Builder
	for i, word := range before {
		at := strings.Index(s, word)
		out.WriteString(s[:at])
		out.WriteString(after[i])
		s = s[at+len(word):]
	}
	out.WriteString(s)
	return out.String()
}

// redactWords hides, in place, values that only their position gives away.
func redactWords(args []string) {
	var short *program
	for i := 0; i < len(args); i++ {
		if p := programOf(args[i]); p != nil {
			short = p
			continue
		}
		if whole, ok := redactAssignment(args[i]); ok {
			args[i] = whole
			continue
		}
		arg, hide, takesNext := args[i], hideAll, false
		if short != nil {
			hide = short.redactValue
			args[i], takesNext = short.redact(arg)
		}
		if !takesNext && args[i] == arg && isOption(arg) && secretName(arg) {
			hide, takesNext = hideAll, !short.attaches(arg)
		}
		// A value may begin with one dash; two are the next option, after an
		// option that asks on the terminal.
		if takesNext && i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			args[i] = hide(args[i])
		}
	}
}

func hideAll(string) string { return Hidden }

func isOption(arg string) bool { return len(arg) > 2 && arg[0] == '-' }

// redactAssignment hides the value of a name=value whose name is secret. The value
// is all that follows, blanks included.
func redactAssignment(arg string) (string, bool) {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || value == "" || strings.ContainsAny(name, " \t\n\"'?&;:/") || !secretName(name) {
		return arg, false
	}
	return name + "=" + Hidden, true
}

// secretName reports whether an option or variable of that name holds a secret
// itself, and not the place where one is.
func secretName(name string) bool {
	name = strings.ToLower(strings.TrimLeft(name, "-"))
	if strings.HasPrefix(name, "no-") || strings.HasPrefix(name, "ask-") || name == "pwd" || name == "oldpwd" {
		return false
	}
	for _, suffix := range []string{"file", "path", "dir", "fd", "stdin", "prompt", "name", "type", "url", "ttl", "length"} {
		if strings.HasSuffix(name, suffix) {
			return false
		}
	}
	// Counts of a language model's tokens are no secret.
	if strings.Contains(name, "tokeniz") || strings.HasSuffix(name, "tokens") && countName().MatchString(name) {
		return false
	}
	return slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(name, word) })
}

// The expressions are compiled for the first who needs them: most commands never do, and
// start the sooner.
var countName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:max|min|num|n|total)\b|^(?:max|min|num|n|total)_`)
})

var secretWords = []string{"password", "passwd", "passphrase", "passwort", "secret", "token", "apikey",
	"api-key", "api_key", "api.key", "accesskey", "access-key", "access_key", "account_key", "accountkey",
	"private-key", "private_key", "encryption-key", "encryption_key", "credential", "_pwd", "-pwd", "_pass", "-pass",
	"authkey", "auth-key", "auth_key", "sessionid", "signature"}

// A program has short options that take a secret.
type program struct {
	names []string
	// attached is the option's letters whose value follows at once (-px); separate
	// those whose value is the next argument.
	attached, separate string
	// long are the long options that take user:password.
	long []string
	// user says that the value is user:password, of which the user may be shown.
	user bool
}

var programs = []program{
	{names: []string{"mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlshow", "mysqlpump", "mysqlbinlog",
		"mysqlslap", "mariadb", "mariadb-dump", "mariadb-admin", "mariadb-import", "mariadb-check", "mariadb-backup",
		"mycli", "xtrabackup", "7z", "7za", "rar", "unrar"}, attached: "p"},
	{names: []string{"sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "docker", "podman",
		"rabbitmqadmin", "az", "doveadm"}, attached: "p", separate: "p"},
	{names: []string{"redis-cli", "keydb-cli", "valkey-cli"}, attached: "a", separate: "a"},
	{names: []string{"ldapsearch", "ldapmodify", "ldapadd", "ldapdelete", "ldapwhoami", "ldappasswd"}, attached: "w", separate: "w"},
	{names: []string{"sqlcmd", "bcp", "isql", "tsql", "mosquitto_pub", "mosquitto_sub", "zip", "unzip", "ipmitool"},
		attached: "P", separate: "P"},
	{names: []string{"curl"}, attached: "uU", separate: "uU", long: []string{"--user", "--proxy-user"}, user: true},
}

// programOf returns the entry of the program that arg names, or nil.
func programOf(arg string) *program {
	if arg == "" || arg[0] == '-' {
		return nil
	}
	base := path.Base(arg)
	for i := range programs {
		if slices.Contains(programs[i].names, base) {
			return &programs[i]
		}
	}
	return nil
}

// redact hides what is attached to a short option, and reports whether the next
// argument is the option's secret.
func (p *program) redact(arg string) (string, bool) {
	if slices.Contains(p.long, arg) {
		return arg, true
	}
	for _, name := range p.long {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return name + "=" + p.redactValue(value), false
		}
	}
	if len(arg) < 2 || arg[0] != '-' || arg[1] == '-' {
		return arg, false
	}
	if len(arg) == 2 {
		return arg, strings.IndexByte(p.separate, arg[1]) >= 0
	}
	if strings.IndexByte(p.attached, arg[1]) < 0 {
		return arg, false
	}
	return arg[:2] + p.redactValue(arg[2:]), false
}

// attaches reports whether arg is a short option with its value, already hidden.
func (p *program) attaches(arg string) bool {
	return p != nil && arg[1] != '-' && strings.IndexByte(p.attached, arg[1]) >= 0
}

// redactValue hides a value; of user:password it keeps the user.
func (p *program) redactValue(value string) string {
	if !p.user {
		return Hidden
	}
	if user, _, ok := strings.Cut(value, ":"); ok {
		return user + ":" + Hidden
	}
	return value // only a user: the password is asked for
}

type pattern struct {
	find    *regexp.Regexp
	replace string
}

// named is a secret's name within a text, up to where its value begins.
const named = `(?i)([\w.-]*(?:password|passwd|passphrase|secret|token|api[-_.]?key|access[-_]?key|account[-_]?key|credential|_pwd|signature)`

// patterns find secrets by their own form, anywhere in a text.
var patterns = sync.OnceValue(func() []pattern {
	return []pattern{
		// HTTP headers, to the end of the line or of the quotes.
		{regexp.MustCompile(`(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|private-token|x-[\w-]*(?:key|token|secret|auth)[\w-]*)(["']?\s*:\s*["']?)[^"'\n]+`), "${1}${2}" + Hidden},
		{regexp.MustCompile(`(?i)\b(bearer)\s+[^\s"']+`), "${1} " + Hidden},
		// scheme://user:password@host, and a token alone before the host of a web address.
		{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^/\s@:"']*):[^/\s"']*@`), "${1}:" + Hidden + "@"},
		{regexp.MustCompile(`(?i)\b(https?://)[^/\s@:"']+@`), "${1}" + Hidden + "@"},
		// name=value and "name": "value" within a text, a query or JSON.
		{regexp.MustCompile(named + `(?:["']\s*:\s*|\s*=\s*))"[^"\n]*"`), `${1}"` + Hidden + `"`},
		{regexp.MustCompile(named + `(?:["']\s*:\s*|\s*=\s*))'[^'\n]*'`), `${1}'` + Hidden + `'`},
		{regexp.MustCompile(named + `(?:["']\s*:\s*|=))[^\s"'&;,)}]+`), "${1}" + Hidden},
		// openssl's -passin pass:x.
		{regexp.MustCompile(`\bpass:[^\s"']+`), "pass:" + Hidden},
		// Keys of a well-known form.
		{regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), Hidden},
		{regexp.MustCompile(`\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|sk-|sk_live_|rk_live_|npm_|hf_|dop_v1_)[A-Za-z0-9_-]{16,}`), Hidden},
		{regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}`), Hidden},
		{regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), Hidden},
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`), Hidden},
	}
})

// suspicious is the cheap look that most command lines end with.
func suspicious(args []string) bool {
	for _, arg := range args {
		if hasMarker(arg) || hasProgram(arg) {
			return true
		}
	}
	return false
}

// hasProgram reports whether a word of s names a program of the table.
func hasProgram(s string) bool {
	for s != "" {
		end := strings.IndexAny(s, " \t\n")
		if end < 0 {
			return programOf(s) != nil
		}
		if programOf(s[:end]) != nil {
			return true
		}
		s = s[end+1:]
	}
	return false
}

// markers, in lower case, are what every text has that patterns or secretName
// could change.
var markers = []string{"pass", "pwd", "secret", "token", "key", "credential", "signature", "sessionid",
	"authorization", "cookie", "bearer", "auth", "://", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
	"xox", "sk-", "sk_live_", "rk_live_", "npm_", "hf_", "dop_v1_", "aiza", "eyj"}

// hasMarker reports whether s contains one of markers in any case, without
// allocating.
func hasMarker(s string) bool {
	for i := 0; i < len(s); i++ {
		c := lower(s[i])
		if !markerStart[c] {
			continue
		}
		for _, m := range markers {
			if m[0] == c && hasFold(s[i:], m) {
				return true
			}
		}
	}
	return false
}

var markerStart = func() (set [256]bool) {
	for _, m := range markers {
		set[m[0]] = true
	}
	return set
}()

// hasFold reports whether s begins with the lower-case prefix, in any case.
func hasFold(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := 0; i < len(prefix); i++ {
		if lower(s[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

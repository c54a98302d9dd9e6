// SPDX-License-Identifier: Apache-2.0

// Package fingerprint says what a leak is a case of: a stable hash and a name for
// people, from the program that left it, the normal form of its command line, and where
// it ran. So the same leak is counted as one over days and over hosts. It is pure: no
// clock, no I/O.
package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/abot-trace/abot-trace/internal/program"
)

// A Case is what is known of a leaker when its leak is opened.
type Case struct {
	Exe     string   // path of its binary; empty where not known
	Comm    string   // its name, used where the command line is empty
	Cmdline []string // its arguments; secrets in them are removed here
	Unit    string   // systemd unit
	Image   string   // container image; counts instead of the unit where it is set
	// Workload names the owner of a pod ("namespace/name"); counts instead of the image
	// where it is set.
	Workload string
}

// A Fingerprint is stable over restarts, days and hosts, as long as this package's rules
// stay the same.
type Fingerprint struct {
	// ID is "F" and 12 hexadecimal digits.
	ID string
	// Name is the normal form of the command line, made to be read: printable, at most
	// MaxName bytes.
	Name string
	// Program is the label of the leaker's program: the script's base name for
	// interpreters.
	Program string
}

// MaxName is the length of the longest name, in bytes.
const MaxName = 160

const (
	maxProgram = 64
	// These bound the work for one command line. What lies behind them does not count.
	maxWords = 64
	maxWord  = 512
)

// version is hashed in, so that a change of the rules gives other fingerprints.
const version = "1"

// Of returns the fingerprint of c.
func Of(c Case) Fingerprint {
	p := program.Of(c.Cmdline, c.Exe, c.Comm)
	words := normal(c.Cmdline)
	if len(words) == 0 {
		words = []string{normalWord(p.Name, true)}
	}
	place := "unit " + Unit(c.Unit)
	switch {
	case c.Workload != "":
		place = "workload " + Workload(c.Workload)
	case c.Image != "":
		place = "image " + Image(c.Image)
	}
	h := sha256.New()
	for _, part := range append([]string{version, place}, words...) {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return Fingerprint{
		ID:      "F" + hex.EncodeToString(h.Sum(nil)[:6]),
		Name:    clip(text(strings.Join(words, " ")), MaxName),
		Program: clip(text(normalWord(p.Label(), true)), maxProgram),
	}
}

// Unit is a unit's name without its instance and without transient numbers:
// "worker@.service" for worker@7.service, "run-{n}.scope" for run-u17.scope.
func Unit(unit string) string {
	stem, suffix := unit, ""
	if i := strings.LastIndexByte(unit, '.'); i > 0 {
		stem, suffix = unit[:i], unit[i:]
	}
	instance := ""
	if i := strings.IndexByte(stem, '@'); i > 0 {
		stem, instance = stem[:i], "@"
	}
	if m := transientUnit.FindStringSubmatch(stem); m != nil {
		stem = m[1] + number
	}
	return text(normalWord(stem, false) + instance + suffix)
}

// What systemd-run and logind make carries nothing but a number of their own:
// run-u17.scope, run-r3f….service, run-p123-i456.scope, session-c2.scope.
var transientUnit = regexp.MustCompile(`^(run-|session-)[a-z]?[0-9a-f]+(-i?\d+)*$`)

// Image is an image's name without tag and digest, so that a release does not make
// another case.
func Image(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// Workload is a pod's namespace and name without what its controller appended:
// "shop/cart" for shop/cart-7d9f8b6c5d-x2x9k and for shop/cart-0.
func Workload(pod string) string { return podSuffix.ReplaceAllString(pod, "") }

// The letters are those of Kubernetes' rand.String: no vowels, none of 0, 1 and 3.
var podSuffix = regexp.MustCompile(`(-[0-9bcdfghjklmnpqrstvwxz]{6,10})?-([bcdfghjklmnpqrstvwxz2456789]{5}|\d{1,4})$`)

// clip cuts s to at most n bytes, between two runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

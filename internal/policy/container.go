// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// MatchWide reports whether a shell pattern matches the whole text, * and ? a slash too: images
// and pods have slashes that divide no directories. A malformed pattern matches nothing.
func MatchWide(pattern, text string) bool {
	return wideGlob{pattern, withoutSlash(pattern)}.match(text)
}

// withoutSlash puts something in the place of slashes, which path.Match would halt at.
func withoutSlash(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

type wideGlob struct{ pattern, plain string }

func parseWideGlobs(patterns []string) ([]wideGlob, error) {
	if _, err := parseGlobs(patterns); err != nil {
		return nil, err
	}
	globs := make([]wideGlob, len(patterns))
	for i, p := range patterns {
		globs[i] = wideGlob{p, withoutSlash(p)}
	}
	return globs, nil
}

func (g wideGlob) match(s string) bool {
	ok, _ := path.Match(g.plain, withoutSlash(s))
	return ok
}

// matchesAny reports whether one of the patterns matches one of the texts that are not empty.
func matchesAny(globs []wideGlob, texts ...string) bool {
	return slices.ContainsFunc(globs, func(g wideGlob) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return s != "" && g.match(s) })
	})
}

// wideGlobs makes the condition of a field that is matched by patterns of which one must
// match one of its texts.
func wideGlobs(name string, of func(*Process) []string) func(any) (condition, error) {
	return func(v any) (condition, error) {
		patterns, err := parseWideGlobs(v.([]string))
		return &wideGlobCondition{name, patterns, of}, err
	}
}

type wideGlobCondition struct {
	field string
	globs []wideGlob
	of    func(*Process) []string
}

func (g *wideGlobCondition) holds(c *candidate) (bool, uint64) {
	return matchesAny(g.globs, g.of(&c.p)...), 0
}

func (g *wideGlobCondition) describe(c *candidate) string {
	var value string
	for _, s := range g.of(&c.p) {
		if s != "" && (value == "" || matchesAny(g.globs, s)) {
			value = s
		}
	}
	switch {
	case matchesAny(g.globs, value):
		return fmt.Sprintf("its %s is %s", g.field, value)
	case value == "":
		return fmt.Sprintf("its %s is not known, or it has none", g.field)
	}
	patterns := make([]string, len(g.globs))
	for i, glob := range g.globs {
		patterns[i] = glob.pattern
	}
	return fmt.Sprintf("its %s is %s, which does not match %s", g.field, value, strings.Join(patterns, " or "))
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
)

// hint returns `, did you mean "x"?`-like text for the word of words that is nearest
// to word, or nothing where none is near.
func hint(word string, words ...string) string {
	if near := nearest(word, words); near != "" {
		return `, did you mean "` + near + `"?`
	}
	return ""
}

// nearest returns the word with the smallest edit distance, if that is small enough
// for a slip of the finger; of equals the first.
func nearest(word string, words []string) string {
	best, distance := "", max(len(word)/3, 1)+1
	for _, w := range words {
		// Hostile words are long; a far length cannot be near.
		if len(word)-len(w) >= distance || len(w)-len(word) >= distance {
			continue
		}
		if d := edits(strings.ToLower(word), w); d < distance {
			best, distance = w, d
		}
	}
	return best
}

// edits counts insertions, deletions, substitutions and swaps of neighbours
// (optimal string alignment) that turn a into b.
func edits(a, b string) int {
	before, previous := make([]int, len(b)+1), make([]int, len(b)+1)
	current := make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}

// oneOf lists words for a message.
func oneOf(words []string) string {
	sorted := slices.Clone(words)
	slices.Sort(sorted)
	return strings.Join(sorted, ", ")
}

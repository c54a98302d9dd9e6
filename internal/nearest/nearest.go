// SPDX-License-Identifier: Apache-2.0

// Package nearest finds the word that someone probably meant.
package nearest

import (
	"slices"
	"strings"
)

// Hint returns `, did you mean "x"?` for the word of words that is nearest to word,
// or nothing where none is near.
func Hint(word string, words ...string) string {
	if near := Word(word, words); near != "" {
		return `, did you mean "` + near + `"?`
	}
	return ""
}

// Word returns the word of words that word is a slip of the finger away from, of
// several the nearest, of equals the first; nothing where none is near.
func Word(word string, words []string) string {
	if len(word) < 3 {
		return ""
	}
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

// List joins words in alphabetical order for a message.
func List(words []string) string {
	return strings.Join(slices.Sorted(slices.Values(words)), ", ")
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

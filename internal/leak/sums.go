// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// Keys are what leaks can be summed by.
var Keys = []string{"program", "leaker", "unit", "container", "user", "rule"}

// keysOf are the groups that a leak belongs to: one, but for rules, of which several or none
// may have ended it.
func keysOf(l *wire.Leak, by string) []string {
	switch by {
	case "program":
		return []string{cmp.Or(l.Program, l.Leaker.Comm)}
	case "leaker":
		return []string{cmp.Or(l.Name, l.Leaker.Comm)}
	case "unit":
		return []string{l.Leaker.Unit}
	case "container":
		return []string{cmp.Or(l.Leaker.ContainerName, l.Leaker.Container)}
	case "user":
		return []string{l.Leaker.User}
	case "rule":
		return l.Rules
	}
	return nil
}

// Sum counts and sums leaks by one of Keys, the group that has cost most memory over time
// first.
func Sum(list []wire.Leak, by string) []wire.LeakGroup {
	groups := make(map[string]*wire.LeakGroup)
	for i := range list {
		for _, key := range keysOf(&list[i], by) {
			g := groups[key]
			if g == nil {
				g = &wire.LeakGroup{Key: key, Verdicts: make(map[string]int)}
				groups[key] = g
			}
			add(g, &list[i])
		}
	}
	out := make([]wire.LeakGroup, 0, len(groups))
	for _, g := range groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b wire.LeakGroup) int {
		return cmp.Or(-cmp.Compare(a.ByteSeconds, b.ByteSeconds), -cmp.Compare(a.Leaks, b.Leaks), strings.Compare(a.Key, b.Key))
	})
	return out
}

func add(g *wire.LeakGroup, l *wire.Leak) {
	g.Leaks++
	g.Processes += l.Processes.Total
	g.Verdicts[l.Verdict]++
	if l.State == wire.LeakStateOpen {
		g.Open++
		g.RSSBytes += valueOf(l.RSSBytes)
		g.SwapBytes += valueOf(l.SwapBytes)
	}
	g.ByteSeconds += valueOf(l.ByteSeconds)
	g.CPUSeconds += valueOf(l.CPUSeconds)
	if l.OpenedAt.After(g.LastAt) {
		g.LastAt = l.OpenedAt
	}
}

func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Within returns the leaks that were open at some time between since and until; a zero time
// is no bound.
func Within(list []wire.Leak, since, until time.Time) []wire.Leak {
	return slices.DeleteFunc(slices.Clone(list), func(l wire.Leak) bool {
		return !until.IsZero() && l.OpenedAt.After(until) || !since.IsZero() && l.EndedAt != nil && l.EndedAt.Before(since)
	})
}

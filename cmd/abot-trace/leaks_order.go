// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// leakOrders are the orders of --sort.
var leakOrders = map[string]func(a, b *wire.Leak) int{
	"age":    func(a, b *wire.Leak) int { return a.OpenedAt.Compare(b.OpenedAt) },
	"cost":   func(a, b *wire.Leak) int { return cmp.Compare(leakCost(b), leakCost(a)) },
	"memory": func(a, b *wire.Leak) int { return cmp.Compare(leakMemory(b), leakMemory(a)) },
	"user":   func(a, b *wire.Leak) int { return strings.Compare(a.Leaker.User, b.Leaker.User) },
}

func leakCost(l *wire.Leak) float64 {
	if l.ByteSeconds == nil {
		return 0
	}
	return *l.ByteSeconds
}

// leakOrder is the order that --sort names; nil where none does.
func leakOrder(c *cli.Context) (func(a, b *wire.Leak) int, error) {
	switch {
	case !c.IsSet("sort"):
		return nil, nil
	case c.String("by") != "":
		return nil, usageError("leaks: sums have the dearest first: --sort cannot stand beside --by")
	}
	return chosenOrder(c, leakOrders)
}

// chosenLeaks are the first n in that order or, without one, the latest n in that of list, which
// begins with the oldest; all, where n is 0.
func chosenLeaks(list []wire.Leak, order func(a, b *wire.Leak) int, n int) []wire.Leak {
	if order != nil {
		slices.SortStableFunc(list, func(a, b wire.Leak) int { return order(&a, &b) })
	}
	switch {
	case n == 0 || n >= len(list):
		return list
	case order != nil:
		return list[:n]
	}
	return list[len(list)-n:]
}

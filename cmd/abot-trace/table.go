// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/render"
)

const outputWide = "wide"

// tableFlags are the flags of a list that is a table; columns are its columns.
func tableFlags(columns []string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "columns", Usage: "only these `COLUMNS`, in this order, separated by commas: " + strings.Join(columns, ", ")},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORM`: wide has all columns, whatever the width"},
	}
}

// chosenOrder returns the order that --sort names, of those that the list has.
func chosenOrder[T any](c *cli.Context, orders map[string]T) (T, error) {
	key := c.String("sort")
	order, known := orders[key]
	if keys := slices.Sorted(maps.Keys(orders)); !known {
		return order, usageError("--sort %q%s: want %s", key, nearest.Hint(key, keys...), strings.Join(keys, ", "))
	}
	return order, nil
}

// checkTable returns a usage error where the flags of tableFlags make no sense.
func checkTable(c *cli.Context, columns []string) error {
	if form := c.String("output"); form != "" && form != outputWide {
		return usageError("--output %q%s: want wide", form, nearest.Hint(form, outputWide))
	}
	list := c.String("columns")
	if list == "" {
		return nil
	}
	for _, name := range strings.Split(list, ",") {
		if !slices.ContainsFunc(columns, func(column string) bool { return render.SameColumn(column, name) }) {
			return usageError("--columns %q%s: want %s", name, nearest.Hint(name, columns...), strings.Join(columns, ", "))
		}
	}
	return nil
}

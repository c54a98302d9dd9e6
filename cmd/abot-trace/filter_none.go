// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
)

// sayNoneMatch says that none of what is there passes the filter, so that nobody takes an empty
// list for good news. Flags are those that choose beside the filter's.
func (f *filter) sayNoneMatch(w io.Writer, noun string, others int, flags ...string) error {
	are := "are"
	if others == 1 {
		are = "is"
	}
	_, err := fmt.Fprintf(w, "No %s match: %s; %s %s there\n", quantity.Plural(noun), f.given(flags), quantity.Count(others, "other"), are)
	return err
}

// given is the filter as it was typed, with other flags before it.
func (f *filter) given(flags []string) string {
	for _, flag := range append(filterFlags(), placeFlags()...) {
		name := flag.Names()[0]
		switch _, list := flag.(*cli.StringSliceFlag); {
		case !f.command.IsSet(name):
		case list:
			for _, value := range f.command.StringSlice(name) {
				flags = append(flags, "--"+name, value)
			}
		default:
			flags = append(flags, "--"+name, f.command.String(name))
		}
	}
	return safetext.Args(flags)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"testing"
)

// TestGroups wants each heading of the help to name commands that are there, and each command
// that is shown to stand under one.
func TestGroups(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	seen := make(map[string]string)
	for heading, names := range groups {
		for _, name := range names {
			if app.Command(name) == nil {
				t.Errorf("%s: there is no command %s", heading, name)
			}
			if other, twice := seen[name]; twice {
				t.Errorf("%s stands under %s and %s", name, other, heading)
			}
			seen[name] = heading
		}
	}
	for _, c := range app.Commands {
		if !c.Hidden && c.Category == "" {
			t.Errorf("%s stands under no heading", c.Name)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A want is what an operator who knows what was done wants to be told of a process.
type want string

const (
	leaked     want = wire.VerdictLeaked
	deliberate want = wire.VerdictDeliberate
	// unknown: no person could tell from what a process shows. The row says why.
	unknown want = wire.VerdictUnknown
	// none: it never is an orphan.
	none want = "no orphan"
	// kept: deliberate, or never an orphan: how its starter goes about it is its own
	// affair, and so is one that ends by itself before it is judged for good.
	kept want = "kept"
)

// A place is a kind of system that a case runs in.
type place string

const (
	plain   place = "init"    // a container with a small init, no systemd
	systemd place = "systemd" // a booted systemd with the package installed
)

// A testCase is something that people do with software, and what they want to be told.
type testCase struct {
	section string // of the document: set by allCases
	name    string
	places  []place // empty means plain
	// script is run by bash after inside/prelude.sh, by root. It says by "ask ROLE PID"
	// which processes the case is about, and returns when the deed is done.
	script string
	wants  map[string]want // by role
	// race says that the order of steps is left to the scheduler: such a case is run more
	// often.
	race bool
	// uses names what two cases cannot use at once: a service, a port, a bus.
	uses string
	// shares names what it uses beside others that share it, and not beside one that uses it.
	shares string
	// why says, of a case that wants unknown, why nobody could tell.
	why string
	// open says why a verdict is unknown although a person could tell: what is known not
	// to be told apart yet.
	open string
}

// in returns where the case runs.
func (c *testCase) in() []place {
	if len(c.places) == 0 {
		return []place{plain}
	}
	return c.places
}

// in lists places.
func in(places ...place) []place { return places }

// what lists roles with what is wanted: what("worker", leaked).
func what(pairs ...any) map[string]want {
	wants := map[string]want{}
	for i := 0; i < len(pairs); i += 2 {
		wants[pairs[i].(string)] = pairs[i+1].(want)
	}
	return wants
}

// allCases are those of every file, in the order of the document.
func allCases() (all []testCase) {
	for _, s := range []struct {
		title string
		cases []testCase
	}{
		{"Daemons that go into the background", daemonCases},
		{"Jobs left by shells and programs", jobCases},
		{"Terminals, multiplexers and connections", terminalCases},
		{"Services", serviceCases},
		{"Upgrades while serving", upgradeCases},
		{"D-Bus", busCases},
		{"Scopes, user managers and logins", scopeCases},
		{"cron and at", cronCases},
		{"Containers and sandboxes", containerCases},
		{"Masters that are killed, crash, or run out of memory", killedCases},
		{"Masters that leave", leftCases},
		{"Later deaths", laterCases},
	} {
		for _, c := range s.cases {
			c.section = s.title
			all = append(all, c)
		}
	}
	return all
}

// selectCases returns the cases that match, checked.
func selectCases(match *regexp.Regexp) ([]testCase, error) {
	names := map[string]bool{}
	var selected []testCase
	for _, c := range allCases() {
		if names[c.name] {
			return nil, fmt.Errorf("two cases are named %q", c.name)
		}
		names[c.name] = true
		if len(c.wants) == 0 {
			return nil, fmt.Errorf("%s: wants nothing", c.name)
		}
		for role, w := range c.wants {
			if w == unknown && c.why == "" {
				return nil, fmt.Errorf("%s: %s: wants unknown and does not say why", c.name, role)
			}
		}
		if match.MatchString(c.name) {
			selected = append(selected, c)
		}
	}
	return selected, nil
}
